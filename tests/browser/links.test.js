// Browsers that show pictures in changing sizes, behind links that change.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventually, openBrowser } from "./browser.js";
import { buildHome } from "./home.js";
import { startServer } from "./server.js";
import { decoded, openStudio, sentBytes, show, widths } from "./studio.js";

const CAMERA = { preset: "h720", videoCodec: "vp8" };
let server;
let browser;

before(async () => {
  server = await startServer();
  browser = await openBrowser();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

const seconds = (count) => new Promise((resolve) => setTimeout(resolve, count * 1_000));

/** Opens a page for the length of a test. */
async function open(t, ...who) {
  const page = await openStudio(browser, ...who);
  t.after(() => page.context().close());
  return page;
}

/** Bits of video a second that a page sends, over some frames. */
async function sentRate(page) {
  const bytes = await sentBytes(page);
  const begin = performance.now();
  await seconds(0.4);
  return ((await sentBytes(page)) - bytes) * 8_000 / (performance.now() - begin);
}

for (const [videoCodec, preset, width] of [["h264", "h720", 1280], ["vp9", "h540", 960], ["av1", "h540", 960]]) {
  test(`the size on the page is the size that arrives: ${videoCodec}`, async (t) => {
    const room = `sizes-${videoCodec}`;
    const ada = await open(t, server.url, room, "ada", { preset, videoCodec });
    const ben = await open(t, server.url, room, "ben");
    await show(ben, "ada", width, width);
    for (const part of [4, 1, 2, 1]) await show(ben, "ada", width / part, width / part);
  });
}

test("a camera that all show small sends little, and all of it once somebody enlarges it", async (t) => {
  const ada = await open(t, server.url, "thumbnails", "ada", CAMERA);
  const [ben, cho] = [
    await open(t, server.url, "thumbnails", "ben"),
    await open(t, server.url, "thumbnails", "cho"),
  ];
  await Promise.all([ben, cho].map((page) => show(page, "ada", 1280, 1280)));
  const full = await eventually(() => sentRate(ada), (rate) => rate > 500_000, "all layers sent");
  await Promise.all([ben, cho].map((page) => show(page, "ada", 160, 320)));
  await eventually(() => sentRate(ada), (rate) => rate < 250_000, "little sent", 6_000);
  const took = await show(cho, "ada", 1280, 1280);
  assert.ok(took < 1_000, `enlarged after ${took} ms`);
  await eventually(() => sentRate(ada), (rate) => rate > 0.85 * full, "all layers sent again", 1_000 - took);
});

test("behind a narrow link a picture keeps moving, changes its size at once, and recovers with the link", async (t) => {
  const home = await buildHome(server, "127.0.0.2");
  t.after(() => home.leave());
  const link = (rate) => ({ uplink: { delay: 20 }, downlink: { rate, delay: 20 } });
  await home.set(link(3_000_000));
  const ada = await open(t, server.url, "links", "ada", CAMERA);
  const ben = await open(t, home.url, "links", "ben");
  await show(ben, "ada", 1280, 1280);
  for (const [width, expected] of [[160, 320], [1280, 1280]]) {
    const took = await show(ben, "ada", width, expected);
    assert.ok(took < 1_000, `${expected} wide after ${took} ms`);
  }
  // The large picture is asked for all the time. What fits is the small one in full, or the middle one
  // at half its frame rate.
  await home.set(link(250_000));
  await show(ben, "ada", 1280, 320, 640);
  await seconds(2);
  const before = await decoded(ben);
  const sizes = await widths(ben, "ada", 5_000);
  const after = await decoded(ben);
  const seen = JSON.stringify({ sizes, before, after });
  assert.ok(after.frames - before.frames > 20, seen);
  // A change of size begins with a keyframe, which such a link carries for a fifth of a second: long
  // enough for Chromium to count it as a freeze. So the larger one is tried once at most.
  assert.ok(sizes.length <= 3, seen);
  assert.ok(after.frozen - before.frozen < 0.4, seen);
  await home.set(link(3_000_000));
  const took = await show(ben, "ada", 1280, 1280);
  assert.ok(took < 10_000, `recovered after ${took} ms`);
});
