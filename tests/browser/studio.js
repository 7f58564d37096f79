// A bare page with livekit-client: each received picture in an element whose size the test sets.

import { openPage } from "./browser.js";

const client = new URL("./node_modules/livekit-client/dist/livekit-client.umd.js", import.meta.url).pathname;

/** Joins a room by a page of its own; `camera` is its resolution and publishing options, if it has one. */
export async function openStudio(browser, url, room, name, camera) {
  const page = await openPage(browser);
  // Any plain document of the server will do. It must be a real one: Chromium lets only pages from a
  // local address talk to local addresses.
  await page.goto(`${url}/metrics`);
  await page.addScriptTag({ path: client });
  await page.evaluate(
    async ({ room, name, camera }) => {
      document.body.replaceChildren();
      const headers = { "content-type": "application/json" };
      const answer = await fetch("/api/dev/token", { method: "POST", headers, body: JSON.stringify({ room, name }) });
      const { token } = await answer.json();
      const { Room, RoomEvent, VideoPresets } = window.LivekitClient;
      window.room = new Room({ adaptiveStream: !camera, dynacast: true });
      window.room.on(RoomEvent.TrackSubscribed, (track, _, owner) => {
        const element = document.body.appendChild(track.attach());
        element.dataset.owner = owner.name;
      });
      await window.room.connect(location.origin.replace("http", "ws"), token);
      if (camera) {
        const { preset, ...options } = camera;
        const { resolution } = VideoPresets[preset];
        await window.room.localParticipant.setCameraEnabled(true, { resolution }, { backupCodec: false, ...options });
      }
    },
    { room, name, camera },
  );
  return page;
}

/** Shows whose camera in a box of this width; gives the milliseconds until the picture is as wide as one of `expected`. */
export function show(page, owner, width, ...expected) {
  return page.evaluate(
    async ({ owner, width, expected }) => {
      const begin = performance.now();
      let video;
      while (!(video = document.querySelector(`video[data-owner="${owner}"]`))) {
        if (performance.now() - begin > 20_000) throw new Error(`${owner} is not seen`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      Object.assign(video.style, { width: `${width}px`, height: `${(width * 9) / 16}px` });
      while (!expected.includes(video.videoWidth)) {
        if (performance.now() - begin > 20_000) throw new Error(`${owner} is ${video.videoWidth} wide, not ${expected}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      return performance.now() - begin;
    },
    { owner, width, expected },
  );
}

/** The widths that whose picture has one after the other within this many milliseconds. */
export function widths(page, owner, milliseconds) {
  return page.evaluate(
    async ({ owner, milliseconds }) => {
      const video = document.querySelector(`video[data-owner="${owner}"]`);
      const seen = [];
      const note = (_, { width }) => {
        if (width !== seen.at(-1)) seen.push(width);
        video.requestVideoFrameCallback(note);
      };
      video.requestVideoFrameCallback(note);
      await new Promise((resolve) => setTimeout(resolve, milliseconds));
      return seen;
    },
    { owner, milliseconds },
  );
}

/** Bytes of video that a page has sent, all layers together. */
export function sentBytes(page) {
  return page.evaluate(async () => {
    let bytes = 0;
    for (const connection of window.peerConnections) {
      for (const report of (await connection.getStats()).values()) {
        if (report.type === "outbound-rtp" && report.kind === "video") bytes += report.bytesSent;
      }
    }
    return bytes;
  });
}

/** Decoded frames, freezes and seconds frozen of all video that a page receives. */
export function decoded(page) {
  return page.evaluate(async () => {
    const sum = { frames: 0, freezes: 0, frozen: 0 };
    for (const connection of window.peerConnections) {
      for (const report of (await connection.getStats()).values()) {
        if (report.type !== "inbound-rtp" || report.kind !== "video") continue;
        sum.frames += report.framesDecoded ?? 0;
        sum.freezes += report.freezeCount ?? 0;
        sum.frozen += report.totalFreezesDuration ?? 0;
      }
    }
    return sum;
  });
}
