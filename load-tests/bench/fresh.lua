-- Requests for wrk, each of the next client and with fresh rows: two decimals of the body's numbers are drawn anew.
-- Arguments: file of the body, method, path, every so many-th number is drawn, number of clients.
local ffi = require("ffi")
local bit = require("bit")

-- Digits of 0 to 127 modulo 100.
local tenths, hundredths = ffi.new("uint8_t[128]"), ffi.new("uint8_t[128]")
for number = 0, 127 do
   tenths[number] = 48 + math.floor(number % 100 / 10)
   hundredths[number] = 48 + number % 10
end

local buffers, places, turn, random = {}, {}, 0, 1

local function head(method, path, client, length)
   return method .. " " .. path .. " HTTP/1.1\r\nHost: models.example.com\r\n"
      .. "User-Agent: python-requests/2.32.3\r\nAccept: */*\r\nContent-Type: application/json\r\n"
      .. string.format("X-API-Key: client-%06d\r\nContent-Length: %d\r\n\r\n", client, length)
end

function init(args)
   local file = assert(io.open(args[1], "rb"))
   local body = file:read("*a")
   file:close()
   local every, clients = tonumber(args[4]), tonumber(args[5])
   local points, count, from = {}, 0, 1
   while true do
      local point = body:find(".", from, true)
      if not point then break end
      if count % every == 0 then points[#points + 1] = point end
      count, from = count + 1, point + 1
   end
   for client = 0, clients - 1 do
      local start = head(args[2], args[3], client, #body)
      local request = start .. body
      local buffer = ffi.new("char[?]", #request)
      ffi.copy(buffer, request, #request)
      local own = ffi.new("int32_t[?]", #points)
      -- A point at place p, from 1, is followed by a decimal at offset p, from 0.
      for index, point in ipairs(points) do own[index - 1] = #start + point end
      buffers[client], places[client] = { buffer, #request }, { own, #points }
   end
   turn, random = clients, os.time() % 100000
end

function request()
   turn = turn + 1
   if not buffers[turn] then turn = 0 end
   local buffer, length = buffers[turn][1], buffers[turn][2]
   local own, count = places[turn][1], places[turn][2]
   local state = random
   for index = 0, count - 1 do
      -- Numerical Recipes' generator; the product stays below 2^53 and is exact.
      state = bit.tobit(state * 1664525 + 1013904223)
      local drawn, place = bit.rshift(state, 25), own[index]
      buffer[place] = tenths[drawn]
      buffer[place + 1] = hundredths[drawn]
   end
   random = state
   return ffi.string(buffer, length)
end

function done(summary)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   print(string.format("bench %d %d %d", summary.requests, summary.duration, failed))
end
