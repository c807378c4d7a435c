-- Reads entries that are to be delivered, and which of their Triggers are done.
--
-- KEYS 1 broker:events  stream   2 broker:done  hash
-- ARGV 1 about how many bytes of events' data to look at   2 '1': with the data   3... ids
--
-- Answers for the first ones of the ids, at least one, as many as fit: fields of the entry, empty where it is not there;
-- bytes of its data; Triggers that are done.
local left_bytes = tonumber(ARGV[1])
local answer = {}
for index = 3, #ARGV do
  local id = ARGV[index]
  local found = redis.call('XRANGE', KEYS[1], id, id)[1]
  local fields, size_bytes, done = found and found[2] or {}, 0, {}
  for at = 1, #fields, 2 do
    if fields[at] == 'data' then
      size_bytes = #fields[at + 1]
      if ARGV[2] ~= '1' then fields[at + 1] = '' end
    elseif fields[at] == 'to' then
      for trigger in string.gmatch(fields[at + 1], '[^,]+') do
        if redis.call('HEXISTS', KEYS[2], id .. ' ' .. trigger) == 1 then done[#done + 1] = trigger end
      end
    end
  end
  answer[#answer + 1] = {fields, size_bytes, done}
  left_bytes = left_bytes - size_bytes
  if left_bytes <= 0 then break end
end
return answer
