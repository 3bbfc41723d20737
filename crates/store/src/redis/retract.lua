-- A retraction: deletes the row of its version or a smaller one, and remembers it for the rest of the run.
-- KEYS: the row, its tombstone, the windows of its series
-- ARGV: 1 run, 2 revision, 3 rows, 4 time to live (ms), 5 window,
--   6 the run if rows are written before their epoch is complete, else ''
-- Answer: 2 there was no row, 3 deleted, 4 a later pane that this run has written before a restart stays,
--   5 a row of the same revision that counts more stays, 6 a row of greater revision stays
local revision, rows = tonumber(ARGV[2]), tonumber(ARGV[3])
local function order(other_revision, other_rows)
  local difference = revision - tonumber(other_revision)
  if difference ~= 0 then return difference end
  return rows - tonumber(other_rows)
end
local there = redis.call('HMGET', KEYS[1], 'revision', 'rows', 'run')
local outcome = 2
if there[1] then
  if order(there[1], there[2]) >= 0 then
    redis.call('DEL', KEYS[1])
    redis.call('ZREM', KEYS[3], ARGV[5])
    outcome = 3
  elseif revision ~= tonumber(there[1]) then
    outcome = 6
  else
    outcome = there[3] == ARGV[6] and 4 or 5
  end
end
-- Several runs may write at once; each has a field of its own. Old fields are removed.
local gone = redis.call('HGET', KEYS[2], ARGV[1])
if not gone or order(string.match(gone, '(%S+) (%S+)')) > 0 then
  if not gone and redis.call('HLEN', KEYS[2]) >= 16 then redis.call('DEL', KEYS[2]) end
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
return outcome
