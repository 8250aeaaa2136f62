/**
 * Small UDP programs for the tests of emulated networks; plain JavaScript, started inside a namespace:
 *   sink PORT                            counts what arrives until SIGTERM-like end of input, prints {packets, bytes, span_ns}
 *   blast ADDRESS PORT COUNT BYTES PACE  sends COUNT packets, PACE a millisecond (0: as fast as it goes)
 *   ports ADDRESS PORT FIRST LAST EACH   EACH packets from every source port FIRST..LAST
 *   echo PORT                            sends everything back
 *   rtt ADDRESS PORT COUNT               prints {rtts_ns: [...]}
 */
import { createSocket } from 'node:dgram';

const [mode, ...args] = process.argv.slice(2);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const bound = (socket, port) => new Promise((resolve) => socket.bind(port, '0.0.0.0', resolve));
const ended = () =>
  new Promise((resolve) => {
    process.stdin.on('end', resolve);
    process.stdin.resume();
  });

if (mode === 'sink' || mode === 'echo') {
  const socket = createSocket({ type: 'udp4', recvBufferSize: 8 << 20 });
  let [packets, bytes, first, last] = [0, 0, 0n, 0n];
  socket.on('message', (message, from) => {
    last = process.hrtime.bigint();
    if (packets === 0) first = last;
    packets += 1;
    bytes += message.length;
    if (mode === 'echo') socket.send(message, from.port, from.address);
  });
  await bound(socket, Number(args[0]));
  process.stdout.write('ready\n');
  await ended();
  console.log(JSON.stringify({ packets, bytes, span_ns: Number(last - first) }));
  socket.close();
} else if (mode === 'blast') {
  const [address, port, count, bytes, pace] = [args[0], ...args.slice(1).map(Number)];
  const socket = createSocket('udp4');
  await bound(socket, 0);
  const payload = new Uint8Array(bytes);
  for (let i = 0; i < count; ) {
    const burst = pace === 0 ? 20 : pace;
    for (let j = 0; j < burst && i < count; j++, i++) socket.send(payload, port, address);
    await wait(pace === 0 ? 0 : 1);
  }
  await wait(50);
  socket.close();
} else if (mode === 'ports') {
  const [address, port, from, to, each] = [args[0], ...args.slice(1).map(Number)];
  for (let source = from; source <= to; source++) {
    const socket = createSocket('udp4');
    await bound(socket, source);
    let sent = 0;
    await new Promise((resolve) => {
      for (let i = 0; i < each; i++) {
        socket.send(new Uint8Array(100), port, address, () => {
          sent += 1;
          if (sent === each) resolve();
        });
      }
    });
    socket.close();
  }
} else if (mode === 'rtt') {
  const [address, port, count] = [args[0], Number(args[1]), Number(args[2])];
  const socket = createSocket('udp4');
  await bound(socket, 0);
  const rtts_ns = [];
  for (let i = 0; i < count; i++) {
    const begin = process.hrtime.bigint();
    const answer = new Promise((resolve) => socket.once('message', () => resolve(true)));
    socket.send('x', port, address);
    if (await Promise.race([answer, wait(1000).then(() => false)]))
      rtts_ns.push(Number(process.hrtime.bigint() - begin));
  }
  console.log(JSON.stringify({ rtts_ns }));
  socket.close();
}
