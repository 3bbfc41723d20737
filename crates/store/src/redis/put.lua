-- Writes one row of a metric. The row with the greatest (revision, rows) stays.
-- KEYS: the row, its tombstone, the windows of its series
-- ARGV: 1 run, 2 revision, 3 rows, 4 value ('' is NULL), 5 the run if it has tombstones, else '', 6 time to live (ms),
--   7 when it ends (ms), 8 window, 9 dimensions, 10 window_end, 11 pane, 12 updated_at,
--   13 the run if rows are written before their epoch is complete, else ''
-- Answer: 0 inserted, 7 inserted as the first window of its series, 1 updated, 2 unchanged, 4 stale,
--   5 outnumbered by a row of the same revision, 6 refused because of a greater revision; {rows of the replaced row} if another run wrote that row
local revision, rows = tonumber(ARGV[2]), tonumber(ARGV[3])
local function order(other_revision, other_rows)
  local difference = revision - tonumber(other_revision)
  if difference ~= 0 then return difference end
  return rows - tonumber(other_rows)
end
if ARGV[5] ~= '' then
  local gone = redis.call('HGET', KEYS[2], ARGV[5])
  if gone and order(string.match(gone, '(%S+) (%S+)')) <= 0 then return 4 end
end
local unchanged = false
local there = redis.call('HMGET', KEYS[1], 'revision', 'rows', 'value', 'run', 'dimensions')
if there[1] then
  if there[5] ~= ARGV[9] then return redis.error_reply('SAMEKEY other dimensions have the same hash') end
  local newer = order(there[1], there[2])
  if newer < 0 then
    if revision ~= tonumber(there[1]) then return 6 end
    -- A restart repeats earlier panes.
    return there[4] == ARGV[13] and 4 or 5
  end
  unchanged = newer == 0 and (there[3] or '') == ARGV[4]
end
if unchanged then
  -- The time to live may grow, but not shrink.
  local left = redis.call('PTTL', KEYS[1])
  if left < 0 or left >= tonumber(ARGV[6]) then return 2 end
elseif ARGV[4] ~= '' then
  redis.call('HSET', KEYS[1], 'dimensions', ARGV[9], 'window_end', ARGV[10], 'pane', ARGV[11], 'updated_at', ARGV[12],
    'revision', ARGV[2], 'rows', ARGV[3], 'run', ARGV[1], 'value', ARGV[4])
else
  redis.call('HSET', KEYS[1], 'dimensions', ARGV[9], 'window_end', ARGV[10], 'pane', ARGV[11], 'updated_at', ARGV[12],
    'revision', ARGV[2], 'rows', ARGV[3], 'run', ARGV[1])
  if there[3] then redis.call('HDEL', KEYS[1], 'value') end
end
redis.call('PEXPIRE', KEYS[1], ARGV[6])
local is_first = redis.call('EXISTS', KEYS[3]) == 0
redis.call('ZADD', KEYS[3], ARGV[7], ARGV[8])
if redis.call('PTTL', KEYS[3]) < tonumber(ARGV[6]) then
  redis.call('PEXPIRE', KEYS[3], math.floor(tonumber(ARGV[6]) * 1.25))
end
if not there[1] then return is_first and 7 or 0 end
if unchanged then return 2 end
if there[4] ~= ARGV[1] then return {there[2]} end
return 1
