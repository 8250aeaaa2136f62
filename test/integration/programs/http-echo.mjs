/**
 * http-echo.mjs serve PORT | ask HOST PORT: an HTTP server that sends bodies back, and a client that checks them. For every JavaScript
 * runtime that has node:http and fetch.
 */
import { createHash, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import process from 'node:process';

const [, , what, ...rest] = process.argv;
const REQUESTS = 200;
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

if (what === 'serve') {
  createServer((request, response) => {
    response.writeHead(200, { 'content-type': 'application/octet-stream' });
    request.pipe(response);
  }).listen(Number(rest[0]), '0.0.0.0');
} else {
  const [host, port] = rest;
  for (let i = 0; i < REQUESTS; i++) {
    const body = randomBytes([10, 1000, 20_000, 200_000][i % 4]);
    const answer = await fetch(`http://${host}:${port}/`, { method: 'POST', body });
    const got = new Uint8Array(await answer.arrayBuffer());
    if (answer.status !== 200 || sha256(got) !== sha256(body)) {
      console.error(`request ${i}: status ${answer.status}, ${got.length} of ${body.length} bytes`);
      process.exit(1);
    }
  }
  console.log(`${REQUESTS} bodies came back`);
  process.exit(0);
}
