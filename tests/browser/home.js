// A home: browsers behind one link to the server, which a moim-link emulates.

import { once } from "node:events";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** A home at a loopback address of its own, 127.0.0.2 to 127.0.0.9. */
export async function buildHome(server, address) {
  const binary = process.env.MOIM_LINK_BIN;
  if (!binary) throw new Error("MOIM_LINK_BIN must be the path of the link emulator");
  const emulator = spawn(binary, [address, String(server.port), String(server.media)], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const answers = createInterface({ input: emulator.stdout })[Symbol.asyncIterator]();
  const home = {
    url: `http://${address}:${server.port}`,
    /** Changes `uplink` and `downlink`, as moim-link reads them; gives the statistics of both. */
    async set(links) {
      emulator.stdin.write(`${JSON.stringify(links)}\n`);
      const { value, done } = await answers.next();
      const answer = done ? { error: "the link emulator has ended" } : JSON.parse(value);
      if (answer.error) throw new Error(answer.error);
      return answer;
    },
    async leave() {
      emulator.stdin.end();
      if (emulator.exitCode === null) await once(emulator, "exit");
    },
  };
  await home.set({});
  return home;
}
