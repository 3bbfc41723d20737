-- Adds a member to an index and removes expired ones. A member expires with the last row that it refers to.
-- KEYS: the index. ARGV: 1 member, 2 now (ms), 3 its expiry (ms)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[2])
redis.call('ZADD', KEYS[1], 'GT', ARGV[3], ARGV[1])
-- The index expires later than its members, because rows may follow before the entry is renewed.
local left = math.floor((tonumber(ARGV[3]) - tonumber(ARGV[2])) * 1.25)
if redis.call('PTTL', KEYS[1]) < left then
  redis.call('PEXPIRE', KEYS[1], left)
end
return 0
