// Sends PCM frames of 20 ms to every socket, as plainly as the library allows.
// Usage: node node_ws.js FRAMES_PER_BURST: 1 writes every 20 ms, 5 writes five frames every 100 ms.
"use strict";
const { WebSocketServer } = require("ws");

const framesPerBurst = Number(process.argv[2] || 1);
const frame = Buffer.alloc(12 + 960);
const server = new WebSocketServer({ port: 0, host: "127.0.0.1", perMessageDeflate: false });
const sockets = new Set();
server.on("connection", (socket) => {
  sockets.add(socket);
  socket.on("close", () => sockets.delete(socket));
  socket.on("error", () => sockets.delete(socket));
});
server.on("listening", () => console.log(JSON.stringify({ port: server.address().port })));
setInterval(() => {
  for (const socket of sockets) {
    for (let i = 0; i < framesPerBurst; i++) socket.send(frame, { binary: true });
  }
}, 20 * framesPerBurst);
