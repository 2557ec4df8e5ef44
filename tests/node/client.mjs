// An automerge-repo client that a test holds by its standard input and output.
//
// `node client.mjs FOLDER OPTIONS`: FOLDER has the packages, OPTIONS is JSON:
//
// - `url`: the WebSocket endpoint to dial; `retry`: milliseconds between dials
// - `peer`: our peer id; a random one if it is not given
// - `storage`: a folder to keep documents in; without it they are in memory only
//
// Every line of input is a request, `{"number": .., "ask": NAME, ..}`, and gets one line of output
// with the same number: `{"number": .., "answer": ..}`, or `"error"` in place of the answer. A
// request does not wait for those before it. Whatever waits for something has a deadline, `within`
// milliseconds. Documents go by their `automerge:` address. The end of input ends the process.

import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import path from "node:path"
import { createInterface } from "node:readline"
import { pathToFileURL } from "node:url"

// Standard output is for answers; the packages print there when something is odd.
console.log = console.error
console.info = console.error
// The WebSocket adapter throws in event handlers when a connection fails in another way than being
// refused. An application that ends then would be no client to test with.
process.on("uncaughtException", error => console.error("uncaught:", error))
process.on("unhandledRejection", error => console.error("unhandled:", error))

const [folder, options] = [process.argv[2], JSON.parse(process.argv[3])]

/** A package of the folder, wherever this file is. */
function load(name) {
  const { resolve } = createRequire(path.join(path.resolve(folder), "package.json"))
  return import(pathToFileURL(resolve(name)).href)
}

const { Counter, Repo, cbor, decodeHeads, parseAutomergeUrl, splice, stringifyAutomergeUrl } =
  await load("@automerge/automerge-repo")
const { WebSocketClientAdapter } = await load("@automerge/automerge-repo-network-websocket")
const { NodeFSStorageAdapter } = await load("@automerge/automerge-repo-storage-nodefs")

/** Files, all of them whole: the repo writes some a moment after they were asked for, and a process
 * that ends in the middle of it leaves half of one. */
class WholeFiles extends NodeFSStorageAdapter {
  #writes = new Set()
  #isClosed = false

  async save(key, binary) {
    if (this.#isClosed) return
    const write = super.save(key, binary)
    this.#writes.add(write)
    await write.finally(() => this.#writes.delete(write))
  }

  /** Takes nothing any more, once what it took is written. */
  async close() {
    this.#isClosed = true
    await Promise.allSettled(this.#writes)
  }
}

const files = options.storage ? new WholeFiles(options.storage) : undefined
const adapter = new WebSocketClientAdapter(options.url, options.retry)
const repo = new Repo({
  network: [adapter],
  ...(options.peer ? { peerId: options.peer } : {}),
  ...(files ? { storage: files } : {}),
})

/** What others said in a document, oldest first. */
const heard = new Map()
/** The types of messages that came, and of those that went, each with how often. */
const received = {}
const sent = {}
const count = (counts, message) => (counts[message.type] = (counts[message.type] ?? 0) + 1)
adapter.on("message", message => count(received, message))
const send = adapter.send.bind(adapter)
adapter.send = message => {
  count(sent, message)
  send(message)
}

const requests = {
  /** Makes documents with these values, and tells their addresses. `null` is nothing at all: given
   * `{}`, the previous version makes a document without any change, which nobody can be given. */
  create: ({ values }) => values.map(value => listen(repo.create(value ?? undefined)).url),

  /** Makes a document of what Automerge saved in a file. */
  import: ({ file }) => listen(repo.import(new Uint8Array(readFileSync(file)))).url,

  /** Looks for documents, and tells of each whether it is `ready` or `unavailable`. */
  find: ({ documents, within }) =>
    Promise.all(documents.map(document => find(document, within ?? PATIENCE))),

  /** Edits a document in one change, and tells its heads. */
  change({ document, steps }) {
    handleOf(document).change(doc => steps.forEach(step => take(doc, step)))
    return heads(document)
  },

  /** Types words into a text, each a change of its own at a place that the seed says. */
  async type({ document, at, words, seed }) {
    const handle = handleOf(document)
    for (const word of words) {
      seed = (seed * 48271) % 0x7fffffff
      handle.change(doc => splice(doc, [...at], seed % (read(doc, at).length + 1), 0, word))
      // What came meanwhile has its turn.
      await new Promise(setImmediate)
    }
    return heads(document)
  },

  value: ({ document }) => handleOf(document).doc(),
  heads: ({ document }) => heads(document),

  /** Waits until a document is here and its heads are these. */
  heads_are: ({ document, heads: wanted, within }) =>
    until(handleOf(document), "heads-changed", within, () => {
      return isReady(document) && same(heads(document), wanted)
    }),

  /** Waits until a document is here and has this value at a path. */
  value_is: ({ document, at, value: wanted, within }) =>
    until(handleOf(document), "heads-changed", within, () => {
      return isReady(document) && same(read(handleOf(document).doc(), at), wanted)
    }),

  /** Waits until the peer said that it has all that is here of these documents. */
  saved: ({ documents, within }) =>
    Promise.all(documents.map(document => saved(handleOf(document), within))),

  /** Sends a message to everybody who has the document open. */
  broadcast: ({ document, message }) => handleOf(document).broadcast(message),

  /** Waits until so many messages came, and tells them all. */
  async heard({ document, count, within }) {
    const messages = heard.get(handleOf(document))
    await until(handleOf(document), "ephemeral-message", within, () => messages.length >= count)
    return messages
  },

  documents: () => Object.keys(repo.handles).map(id => stringifyAutomergeUrl({ documentId: id })),
  received: () => received,
  sent: () => sent,
  peers: () => peers(),

  /** Waits until somebody is at the other end, and tells who. */
  async connected({ within }) {
    await until(repo.networkSubsystem, "peer", within, () => repo.peers.length > 0)
    return peers()
  },

  /** Waits until nobody is at the other end. */
  alone: ({ within }) =>
    until(repo.networkSubsystem, "peer-disconnected", within, () => repo.peers.length === 0),

  disconnect: () => repo.networkSubsystem.disconnect(),
  reconnect: () => repo.networkSubsystem.reconnect(),

  /** Hangs up, and writes what is not yet in the folder. `repo.shutdown` would stumble here over
   * documents that nobody has. */
  async shutdown() {
    repo.networkSubsystem.disconnect()
    await repo.flush(Object.keys(repo.handles).filter(id => repo.handles[id].isReady()))
    await files?.close()
  },
}

/** Milliseconds that something may take if the request does not say. */
const PATIENCE = 60_000

/** Documents that somebody here has asked for, by address. */
const handles = new Map()

function handleOf(document) {
  const handle = handles.get(document)
  if (!handle) throw new Error(`${document} was neither made nor looked for here`)
  return handle
}

/** Takes a handle into the books. */
function listen(handle) {
  if (!heard.has(handle)) {
    heard.set(handle, [])
    handles.set(handle.url, handle)
    handle.on("ephemeral-message", ({ senderId, message }) => {
      heard.get(handle).push({ from: senderId, message })
    })
  }
  return handle
}

async function find(document, within) {
  let outcome = "ready"
  try {
    await repo.find(document, { signal: AbortSignal.timeout(within) })
  } catch (error) {
    if (!/ is unavailable$/.test(error.message)) throw error
    outcome = "unavailable"
  }
  listen(repo.handles[parseAutomergeUrl(document).documentId])
  return outcome
}

const isReady = document => handleOf(document).isReady()

/** Heads as Automerge writes them, sorted. */
const heads = document => decodeHeads(handleOf(document).heads()).sort()

const read = (doc, at) => at.reduce((value, key) => value?.[key], doc)

/** Whether two values are the same as JSON: a counter is its number then. */
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other)

/** One step of an edit. */
function take(doc, { what, at, to, index, remove, insert, by }) {
  const parent = read(doc, at.slice(0, -1))
  const key = at.at(-1)
  switch (what) {
    case "set":
      parent[key] = to
      break
    case "delete":
      delete parent[key]
      break
    case "splice":
      splice(doc, [...at], index, remove, insert)
      break
    case "count":
      if (parent[key] === undefined) parent[key] = new Counter(0)
      parent[key].increment(by)
      break
    case "push":
      parent[key].push(to)
      break
    default:
      throw new Error(`no step is called ${what}`)
  }
}

function peers() {
  return repo.peers.map(peer => ({ peer, ...repo.peerMetadataByPeerId[peer] }))
}

/** Waits until the heads that the peer told last are those that are here. */
async function saved(handle, within) {
  await until(repo.networkSubsystem, "peer", within, () => repo.peers.length > 0)
  const storage = repo.getStorageIdOfPeer(repo.peers[0])
  if (!storage) throw new Error(`peer ${repo.peers[0]} does not say where it stores`)
  await until(handle, "remote-heads", within, () => {
    const told = handle.getRemoteHeads(storage)
    return told !== undefined && same([...told].sort(), [...handle.heads()].sort())
  })
}

/** Waits until a condition holds, looking again after each event: a handle tells of new heads while
 * it is not yet ready. */
function until(emitter, event, within = PATIENCE, condition) {
  return new Promise((resolve, reject) => {
    const look = () => {
      try {
        if (condition()) done(resolve)
      } catch (error) {
        done(reject, error)
      }
    }
    const late = () => done(reject, new Error(`not after ${within} ms of waiting for ${event}`))
    const deadline = setTimeout(late, within)
    const soon = () => setImmediate(look)
    const done = (settle, outcome) => {
      clearTimeout(deadline)
      emitter.off(event, soon)
      settle(outcome)
    }
    emitter.on(event, soon)
    look()
  })
}

for await (const line of createInterface({ input: process.stdin })) void obey(JSON.parse(line))
process.exit(0)

async function obey({ number, ask, ...parameters }) {
  let reply
  try {
    if (!(ask in requests)) throw new Error(`no request is called ${ask}`)
    reply = { number, answer: (await requests[ask](parameters)) ?? null }
  } catch (error) {
    reply = { number, error: error.stack ?? String(error) }
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`)
}
