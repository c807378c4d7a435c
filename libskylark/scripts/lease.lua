-- Takes a lease over from a holder that is gone.
--
-- KEYS[1]  lease  string  who holds it (services/lease.py)
--
-- ARGV[1]  the holder that is gone
-- ARGV[2]  who takes it over
--
-- Returns 1, or 0 where somebody else was quicker.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
