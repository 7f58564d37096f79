// The server under test, as its own process on free ports, in development mode.

import { spawn } from "node:child_process";
import dgram from "node:dgram";
import net from "node:net";
import { once } from "node:events";
import { createInterface } from "node:readline";

async function freeTcpPort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

async function freeUdpPort() {
  const socket = dgram.createSocket("udp4").bind(0, "127.0.0.1");
  await once(socket, "listening");
  const { port } = socket.address();
  socket.close();
  await once(socket, "close");
  return port;
}

export async function startServer() {
  const [port, media] = [await freeTcpPort(), await freeUdpPort()];
  const binary = process.env.MOIM_BIN;
  if (!binary) throw new Error("MOIM_BIN must be the path of the server's binary");
  const config = `port: ${port}\nbind_addresses: ['127.0.0.1']\n`;
  const server = spawn(
    binary,
    ["--dev", "--config-body", config, "--udp-port", String(media), "--shards", "1"],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  for await (const line of createInterface({ input: server.stdout })) {
    if (line.includes("http://")) break;
  }
  return {
    url: `http://localhost:${port}`,
    port,
    media,
    async stop() {
      server.kill("SIGTERM");
      await once(server, "exit");
    },
  };
}
