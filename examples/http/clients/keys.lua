-- Requests for wrk: each with a key of its own, or with one of a hundred where KEYS=repeated.
local repeated = os.getenv("KEYS") == "repeated"
local counter = 0
local id = 0

function setup(thread)
  thread:set("id", id)
  id = id + 1
end

function request()
  counter = counter + 1
  local key = repeated and counter % 100 or (id .. "-" .. counter .. "-" .. os.getenv("RUN"))
  local headers = { ["Idempotency-Key"] = key, ["Content-Type"] = "application/json" }
  return wrk.format("POST", "/", headers, '{"amount":100,"currency":"eur","reference":"order-42"}')
end
