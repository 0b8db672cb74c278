"""The operations of the directory as Lua scripts: Redis does each as a whole.

All keys have the prefix ``cotun:{NAME}:``, whose braces keep them in one slot of a Cluster.
KEYS[1] is that of the stream, ARGV[1] the prefix and ARGV[2] the operation, as
`cotun_trio.fleet.redis_codec` writes it.

=================== ================================================================================
Key                 Value
=================== ================================================================================
``leases``          a sorted set: nodes, by the time when their lease runs out (ms)
``node:ID``         what a node says of itself, as JSON
``state:ID``        its statement
``old:ID``          the one before, while a new one is being made
``graves``          a set: names of statements whose node's lease has run out; they are kept as
                    ``grave:NAME`` until their claims are removed
``claims``          a hash: exclusive places, each with its owner
``epoch``           the counter of epochs
``last``, ``stream`` the number of the last entry, and the entries
``bars``            a sorted set: sources, by the time when their bar ends (ms)
``fails:SOURCE``    failed logins within a minute; ``barred:SOURCE`` is how often it was barred
``revoked``         a sorted set: users, by the time of their last revocation (ms)
``renewed``         when any node renewed its lease last (ms)
``amnesty``         until when no lease runs out (ms)
=================== ================================================================================

A lease that has run out is found by the next node that renews its own, or that claims one of its
places.  Where nobody has renewed for a while, the directory itself was away: then there is an
*amnesty* of the length of a lease, or the first node that comes back would bury all others.
"""

from __future__ import annotations

import functools
import hashlib

import attrs


@attrs.frozen
class Script:
    """A script."""

    text: str = attrs.field(repr=False)

    @functools.cached_property
    def digest(self) -> str:
        """What Redis calls it once it has run."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_PRELUDE = """
local P, op = ARGV[1], cjson.decode(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number) return string.format('%.0f', number) end
local function get(name) return tonumber(redis.call('GET', P .. name) or '0') end

local function say(...)
  if redis.call('EXISTS', P .. 'last') == 0 then
    -- Later than every number that an emptied directory can have given.
    redis.call('SET', P .. 'last', text(time[1] * 1000000 + time[2]))
  end
  local number = text(redis.call('INCR', P .. 'last'))
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', op.max_entries, number .. '-0', ...)
end

local function raise(epoch)
  if get('epoch') < epoch then redis.call('SET', P .. 'epoch', text(epoch)) end
end

local amnesty = get('amnesty')
local function check_amnesty()
  if now - get('renewed') > op.ttl / 2 then
    amnesty = now + op.ttl
    redis.call('SET', P .. 'amnesty', text(amnesty))
  end
end

local function alive(id)
  local ends = redis.call('ZSCORE', P .. 'leases', id)
  return ends and (tonumber(ends) >= now or now < amnesty)
end

local function version(id) return redis.call('HGET', P .. 'state:' .. id, '#') or '0' end

-- The claim is the node's own, of this session: free it.
local function free(place, id, session)
  local owner = redis.call('HGET', P .. 'claims', place)
  if owner then
    local _, node, other = string.match(owner, '^(%d+) (%S+) (%S+) ')
    if node == id and other == session then redis.call('HDEL', P .. 'claims', place) end
  end
end

-- A lease has ended.  The claims go later, some at a time; by then they bind nobody.
local function bury(id)
  if redis.call('ZREM', P .. 'leases', id) == 0 then return end
  redis.call('DEL', P .. 'node:' .. id)
  for _, name in ipairs({'state:' .. id, 'old:' .. id}) do
    if redis.call('EXISTS', P .. name) == 1 then
      redis.call('RENAME', P .. name, P .. 'grave:' .. name)
      redis.call('SADD', P .. 'graves', name)
    end
  end
  say('k', 'gone', 'n', id)
end

local function set_counts(id, counts, changes)
  for _, pair in ipairs(counts) do
    if pair[2] == '0' then
      redis.call('HDEL', P .. 'state:' .. id, pair[1])
    else
      redis.call('HSET', P .. 'state:' .. id, pair[1], pair[2])
    end
    changes[#changes + 1] = pair[1]
    changes[#changes + 1] = pair[2]
  end
end
"""

_LIFE = """
local life = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or '-'
"""

RENEW = Script(
    _PRELUDE
    + _LIFE
    + """
check_amnesty()
redis.call('SET', P .. 'renewed', text(now))
local ends = redis.call('ZSCORE', P .. 'leases', op.id)
local held = ends and tonumber(ends) >= now
redis.call('ZADD', P .. 'leases', text(now + op.ttl), op.id)
redis.call('SET', P .. 'node:' .. op.id, op.facts)
raise(op.epoch)
if op.announce or not held then say('k', 'node', 'f', op.facts, 'v', version(op.id)) end
if now >= amnesty then
  local over = redis.call(
    'ZRANGEBYSCORE', P .. 'leases', '-inf', '(' .. text(now), 'LIMIT', 0, 8)
  for _, id in ipairs(over) do bury(id) end
end

local name = redis.call('SRANDMEMBER', P .. 'graves')
if name then
  local grave, dead = P .. 'grave:' .. name, string.match(name, '^%a+:(.*)$')
  for _, field in ipairs(redis.call('HRANDFIELD', grave, 128) or {}) do
    local session, place = string.match(field, '^r (%d+) (.*)$')
    if place and redis.call('HEXISTS', P .. 'state:' .. dead, field) == 0 then
      free(place, dead, session)
    end
    redis.call('HDEL', grave, field)
  end
  if redis.call('EXISTS', grave) == 0 then redis.call('SREM', P .. 'graves', name) end
end
return {version(op.id), text(get('epoch')), text(get('last')), life}
"""
)

WRITE = Script(
    _PRELUDE
    + """
check_amnesty()
local before = version(op.id)
if before ~= op.version or not redis.call('ZSCORE', P .. 'leases', op.id) then
  return {'outdated', before}
end
raise(op.epoch)
local state, changes, outcomes = P .. 'state:' .. op.id, {}, {}
for _, each in ipairs(op.released) do
  redis.call('HDEL', state, each.f)
  free(each.p, op.id, each.s)
  changes[#changes + 1] = each.f
  changes[#changes + 1] = ''
end

local function claim(wish)
  local owner = redis.call('HGET', P .. 'claims', wish.p)
  if owner then
    local _, node, _, mark = string.match(owner, '^(%d+) (%S+) (%S+) (%S+) ')
    if node ~= op.id and not alive(node) then
      bury(node)
    elseif wish.shared or mark == '-' or mark ~= wish.m then
      return 'held ' .. owner
    end
  elseif wish.known then
    return 'unknown'
  end
  local epoch = text(redis.call('INCR', P .. 'epoch'))
  local value = epoch .. ' ' .. wish.v
  if not wish.shared then
    redis.call('HSET', P .. 'claims', wish.p, epoch .. ' ' .. op.id .. ' ' .. wish.h)
  end
  redis.call('HSET', state, wish.f, value)
  changes[#changes + 1] = wish.f
  changes[#changes + 1] = value
  return 'granted ' .. epoch
end

for i, wish in ipairs(op.claims) do outcomes[i] = claim(wish) end
set_counts(op.id, op.counts, changes)
local after = before
if #changes > 0 then
  after = text(redis.call('HINCRBY', state, '#', 1))
  say('k', 'changed', 'n', op.id, 'v', after, unpack(changes))
end
for _, entry in ipairs(op.entries) do
  if entry[2] == 'revoked' then
    redis.call('ZADD', P .. 'revoked', text(now), entry[4])
    redis.call('ZREMRANGEBYSCORE', P .. 'revoked', '-inf', text(now - op.remembered))
    entry[5], entry[6] = 't', text(now)
  elseif entry[2] == 'barred' then
    redis.call('ZADD', P .. 'bars', text(now + 1000 * tonumber(entry[6])), entry[4])
  elseif entry[2] == 'lifted' then
    redis.call('ZREM', P .. 'bars', entry[4])
    redis.call('DEL', P .. 'fails:' .. entry[4], P .. 'barred:' .. entry[4])
  end
  say(unpack(entry))
end
return {'written', after, text(get('epoch')), unpack(outcomes)}
"""
)

RESTATE = Script(
    _PRELUDE
    + """
local state, old = P .. 'state:' .. op.id, P .. 'old:' .. op.id
local before, making = version(op.id), '~' .. text(op.version)
local fits = before == making
if op.first then fits = tonumber((string.gsub(before, '~', ''))) < op.version end
if not fits or not redis.call('ZSCORE', P .. 'leases', op.id) then return {'outdated', before} end
if op.first then
  local fields = redis.call('HGETALL', state)
  for i = 1, #fields, 2 do redis.call('HSET', old, fields[i], fields[i + 1]) end
  redis.call('DEL', state)
  redis.call('HSET', state, '#', making)
end
local lost = {}
for _, route in ipairs(op.routes) do
  local owner = not route.shared and redis.call('HGET', P .. 'claims', route.p)
  local beaten = false
  raise(route.e)
  if owner then
    local epoch, node = string.match(owner, '^(%d+) (%S+) ')
    epoch = tonumber(epoch)
    beaten = node ~= op.id and alive(node)
      and (epoch > route.e or (epoch == route.e and node > op.id))
  end
  if beaten then
    lost[#lost + 1] = route.p
    lost[#lost + 1] = owner
  else
    redis.call('HSET', state, route.f, route.v)
    if not route.shared then redis.call('HSET', P .. 'claims', route.p, route.h) end
  end
end
set_counts(op.id, op.counts, {})
if op.last then
  for _, field in ipairs(redis.call('HKEYS', old)) do
    local session, place = string.match(field, '^r (%d+) (.*)$')
    if place and redis.call('HEXISTS', state, field) == 0 then free(place, op.id, session) end
  end
  redis.call('DEL', old)
  redis.call('HSET', state, '#', text(op.version))
  say('k', 'restated', 'n', op.id, 'v', text(op.version))
end
return {'retold', unpack(lost)}
"""
)

SURVEY = Script(
    _PRELUDE
    + _LIFE
    + """
local least = now < amnesty and '-inf' or text(now)
local nodes = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', least, '+inf')) do
  local facts = redis.call('GET', P .. 'node:' .. id)
  if facts then
    nodes[#nodes + 1] = facts
    nodes[#nodes + 1] = version(id)
  end
end
local bars = {}
local barred = redis.call('ZRANGEBYSCORE', P .. 'bars', text(now), '+inf', 'WITHSCORES')
for i = 1, #barred, 2 do
  bars[i], bars[i + 1] = barred[i], string.format('%.3f', (tonumber(barred[i + 1]) - now) / 1000)
end
local since = text(now - op.remembered)
local revoked = {}
local scored = redis.call('ZRANGEBYSCORE', P .. 'revoked', since, '+inf', 'WITHSCORES')
for i = 1, #scored, 2 do
  revoked[i], revoked[i + 1] = scored[i], text(tonumber(scored[i + 1]))
end
return {life, text(get('last')), text(get('epoch')), nodes, bars, revoked}
"""
)

LEAVE = Script(
    _PRELUDE
    + """
bury(op.id)
return 0
"""
)

COUNT_FAILURE = Script(
    _PRELUDE
    + """
local fails, barred = P .. 'fails:' .. op.source, P .. 'barred:' .. op.source
local count = redis.call('INCR', fails)
if count == 1 then redis.call('PEXPIRE', fails, op.window) end
if count < op.per_minute then return {text(count), '0'} end
redis.call('DEL', fails)
local times = redis.call('INCR', barred)
redis.call('PEXPIRE', barred, op.forget)
local seconds = math.min(op.first * 2 ^ math.min(times - 1, 16), op.most)
redis.call('ZADD', P .. 'bars', text(now + 1000 * seconds), op.source)
redis.call('ZREMRANGEBYSCORE', P .. 'bars', '-inf', text(now))
redis.call('ZREMRANGEBYRANK', P .. 'bars', 0, -op.max_bars - 1)
say('k', 'barred', 's', op.source, 't', text(seconds))
return {text(count), text(seconds)}
"""
)
