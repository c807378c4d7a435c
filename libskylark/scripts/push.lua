-- Stores a bundle of state that another node sends, once, and wakes the readers that wait for it.
--
-- KEYS[1]  state    hash    field -> frame, and "" -> readers, joined by commas (empty: unknown)
-- KEYS[2]  arrived  stream  readers block on it: "coming" was added when the push began, "arrived" is with the bundle
-- KEYS[3]  retired  set     readers that are done with the bundle: it need not be brought for them
--
-- ARGV[1]  time to live of the bundle in ms
-- ARGV[2]  readers, joined by commas (empty: unknown)
-- ARGV[3]  from here on field, frame, field, frame, ...
--
-- Returns "stored", "present" where the bundle is there already, or "unwanted" where every reader is done.

if redis.call('EXISTS', KEYS[1]) == 1 then return 'present' end

local left = {}
for reader in string.gmatch(ARGV[2], '[^,]+') do
  if redis.call('SISMEMBER', KEYS[3], reader) == 0 then left[#left + 1] = reader end
end
if ARGV[2] ~= '' and #left == 0 then
  redis.call('DEL', KEYS[2])
  return 'unwanted'
end

redis.call('HSET', KEYS[1], '', table.concat(left, ','))
-- Long argument lists overflow Lua's stack in one unpack: write pair by pair.
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('XADD', KEYS[2], 'MAXLEN', '1', '*', 'arrived', '1')
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return 'stored'
