// A Hocuspocus server, for `cargo xtask bench --peers` to measure beside our relay: what its
// documentation starts with, and a file for each document where the documentation has a database.
//
// It is handed to Node as text, with the packages in the working folder and the folder of the
// documents as its argument.

import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Database } from '@hocuspocus/extension-database'
import { Server } from '@hocuspocus/server'

const folder = process.argv[1]
await mkdir(folder, { recursive: true })
const fileOf = (documentName) => join(folder, encodeURIComponent(documentName))

const database = new Database({
  fetch: async ({ documentName }) => {
    try {
      return await readFile(fileOf(documentName))
    } catch (error) {
      if (error.code === 'ENOENT') return null
      throw error
    }
  },
  store: async ({ documentName, state }) => {
    // Whoever ends it while it writes finds the file as it was before.
    const file = fileOf(documentName)
    await writeFile(`${file}.new`, state)
    await rename(`${file}.new`, file)
  },
})

const server = new Server({ address: '127.0.0.1', port: 0, quiet: true, extensions: [database] })
await server.listen()
console.log(`listening on ${server.webSocketURL}`)
