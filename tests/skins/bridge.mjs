// Drives the official socket.io-client for the scenario suite: commands come in as lines of JSON, and what the server
// answers and says goes out as lines of JSON, both in the form of the native protocol's envelopes.
//
//   node bridge.mjs URL TOKEN
import { createInterface } from 'node:readline';
import { io } from 'socket.io-client';

const [url, token] = process.argv.slice(2);
const say = (envelope) => process.stdout.write(`${JSON.stringify(envelope)}\n`);

// What an app does that never heard of Tertulia: the defaults, a token, and callbacks.
const socket = io(url, { auth: { token }, transports: ['websocket'], reconnection: false });

socket.on('connect_error', (error) => {
  say({ id: 0, type: 'error', error: error.data ?? { code: 'internal', message: error.message, retryable: false } });
  process.exit(0);
});
socket.onAny((type, data) => say({ id: type === 'welcome' ? 0 : undefined, type, data }));
socket.on('disconnect', (reason) => {
  say({ type: 'disconnected', data: { reason } });
  process.exit(0);
});

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const { id, type, data } = JSON.parse(line);
    const arguments_ = data === undefined ? [] : [data];
    socket.emit(type, ...arguments_, (answer) => say({ id, ...answer }));
  })
  .on('close', () => socket.close());
