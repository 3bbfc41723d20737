-- Records a committed epoch, unless a later one is there. KEYS: the pipeline. ARGV: 1 run, 2 epoch, 3 now
-- Answer: 0, or the newer run that has replaced this one
local run, epoch = tonumber(ARGV[1]), tonumber(ARGV[2])
local there = redis.call('HMGET', KEYS[1], 'run', 'epoch')
if there[1] then
  local there_run, there_epoch = tonumber(there[1]), tonumber(there[2])
  if there_run > run then return there_run end
  if there_run == run and there_epoch >= epoch then return 0 end
end
redis.call('HSET', KEYS[1], 'run', ARGV[1], 'epoch', ARGV[2], 'committed_at', ARGV[3])
return 0
