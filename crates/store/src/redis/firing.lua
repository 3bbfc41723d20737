-- Adds an alert to the set of those that fire, or removes it. The set outlives every alert in it.
-- KEYS: the set. ARGV: 1 the alert's key, 2 the state that it shows, 3 time to live of an alert (ms)
if ARGV[2] ~= 'firing' then return redis.call('SREM', KEYS[1], ARGV[1]) end
redis.call('SADD', KEYS[1], ARGV[1])
local left = math.floor(tonumber(ARGV[3]) * 1.25)
if redis.call('PTTL', KEYS[1]) < left then
  redis.call('PEXPIRE', KEYS[1], left)
end
return 1
