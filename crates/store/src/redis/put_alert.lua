-- One row of an alert. The hash shows the last row, field by field, and holds each row as JSON.
-- KEYS: the alert
-- ARGV: 1 state, 2 the row as JSON, 3 time to live (ms), then names and values of the row's columns
-- Answer: {0 inserted or 2 unchanged, the state that the hash shows}
local outcome = 2
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 1 then
  outcome = 0
  -- A firing that arrives after the resolve is the older row.
  if ARGV[1] == 'resolved' or redis.call('HEXISTS', KEYS[1], 'resolved') == 0 then
    redis.call('HDEL', KEYS[1], 'value', 'threshold')
    redis.call('HSET', KEYS[1], unpack(ARGV, 4))
  end
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return {outcome, redis.call('HGET', KEYS[1], 'state')}
