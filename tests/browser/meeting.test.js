// Two people in two browsers meet through the meeting page.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { after, before, test } from "node:test";
import { eventually, join, openBrowser, openPage, received } from "./browser.js";
import { startServer } from "./server.js";

const output = new URL("../output/", import.meta.url).pathname;
let server;
let browser;

before(async () => {
  mkdirSync(output, { recursive: true });
  server = await startServer();
  browser = await openBrowser();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

const tile = (page, name, source = "camera") =>
  page.locator(`[data-testid="participant-tile"][data-source="${source}"][data-identity^="${name}-"]`);

test("two browsers see, hear, write to each other and share a screen", async () => {
  const [ada, minjun] = [await openPage(browser), await openPage(browser, { locale: "ko-KR" })];
  await ada.goto(`${server.url}/?room=weekly`);
  await ada.getByTestId("preview-video").waitFor();
  await ada.screenshot({ path: `${output}lobby-en.png` });
  await join(ada, server.url, "weekly", "Ada");
  await minjun.goto(`${server.url}/r/weekly`);
  await minjun.getByTestId("preview-video").waitFor();
  await minjun.screenshot({ path: `${output}lobby-ko.png` });
  await join(minjun, server.url, "weekly", "김민준");

  for (const [page, other] of [[ada, "김민준"], [minjun, "ada"]]) {
    await tile(page, other).locator("video").waitFor();
    const first = await eventually(() => received(page, "video"), (v) => v.framesDecoded > 0, "video");
    await eventually(
      () => received(page, "video"),
      (v) => v.framesDecoded > first.framesDecoded + 20,
      "moving video",
    );
    // The browser's false microphone beeps.
    const energy = (await received(page, "audio")).totalAudioEnergy;
    await eventually(() => received(page, "audio"), (a) => a.totalAudioEnergy > energy + 0.001, "sound");
  }
  // What is shown large arrives large: the top layer has been reached.
  await eventually(() => received(ada, "video"), (v) => Math.max(...v.widths) >= 640, "a larger layer");

  await ada.getByTestId("chat-toggle").click();
  await minjun.getByTestId("chat-toggle").click();
  await ada.getByTestId("chat-input").fill("Good morning <b>all</b>");
  await ada.getByTestId("chat-send").click();
  await minjun.getByTestId("chat-message").getByText("Good morning <b>all</b>").waitFor();
  await minjun.getByTestId("chat-input").fill("안녕하세요");
  await minjun.getByTestId("chat-send").click();
  await ada.getByTestId("chat-message").getByText("안녕하세요").waitFor();
  await ada.screenshot({ path: `${output}meeting-en.png` });
  await minjun.getByTestId("participants-toggle").click();
  await minjun.getByTestId("participant-item").nth(1).waitFor();
  await minjun.screenshot({ path: `${output}meeting-ko.png` });

  const before = await received(minjun, "video");
  await ada.getByTestId("screen-share-toggle").click();
  await tile(minjun, "ada", "screen_share").locator("video").waitFor();
  await eventually(
    () => received(minjun, "video"),
    (v) => v.streams > before.streams && v.framesDecoded > before.framesDecoded + 10,
    "the shared screen",
  );
  await minjun.screenshot({ path: `${output}screen-ko.png` });
  await ada.getByTestId("screen-share-toggle").click();
  await tile(minjun, "ada", "screen_share").waitFor({ state: "detached" });

  await ada.getByTestId("mic-toggle").click();
  await tile(minjun, "ada").locator("footer svg").waitFor();
  await ada.getByTestId("camera-toggle").click();
  await tile(minjun, "ada").locator(".avatar").waitFor();
  await ada.getByTestId("camera-toggle").click();
  await tile(minjun, "ada").locator("video").waitFor();
  await ada.getByTestId("layout-toggle").click();
  await ada.screenshot({ path: `${output}speaker-en.png` });

  await minjun.getByTestId("leave-button").click();
  await minjun.getByTestId("join-button").waitFor();
  await tile(ada, "김민준").waitFor({ state: "detached" });
  assert.deepEqual(
    [...ada.problems, ...minjun.problems].filter((problem) => !/\b404\b/.test(problem)),
    [],
  );
  await ada.context().close();
  await minjun.context().close();
});

test("a picture arrives in the size in which it is shown, and moves across each switch", async () => {
  const [ada, ben] = [await openPage(browser), await openPage(browser)];
  await join(ada, server.url, "sizes", "Ada");
  await join(ben, server.url, "sizes", "Ben");
  const width = (check, what) =>
    eventually(() => received(ada, "video"), (v) => v.framesDecoded > 0 && check(Math.max(...v.widths)), what);
  await width((w) => w >= 640, "a large picture");
  const small = await ada.addStyleTag({ content: "video { width: 120px !important; height: 68px !important }" });
  const { framesDecoded } = await width((w) => w <= 320, "a small picture");
  await eventually(() => received(ada, "video"), (v) => v.framesDecoded > framesDecoded + 20, "a moving small picture");
  await small.evaluate((style) => style.remove());
  await width((w) => w >= 640, "a large picture again");
  await ada.context().close();
  await ben.context().close();
});

test("a signaling connection that breaks is resumed; media and seat stay", async () => {
  const [ada, ben] = [await openPage(browser), await openPage(browser)];
  const sockets = [];
  await ada.routeWebSocket(/\/rtc\?/, (socket) => {
    const upstream = socket.connectToServer();
    sockets.push({ url: socket.url(), break: () => Promise.all([socket.close({ code: 4000 }), upstream.close()]) });
  });
  await join(ada, server.url, "resume", "Ada");
  await join(ben, server.url, "resume", "Ben");
  const connections = await ada.evaluate(() => window.peerConnections.length);
  await eventually(() => received(ada, "video"), (v) => v.framesDecoded > 20, "video");
  let adaLeft = false;
  await ben.exposeFunction("sawAdaLeave", () => (adaLeft = true));
  await ben.evaluate(() => {
    new MutationObserver(() => {
      if (!document.querySelector('[data-identity^="ada-"]')) window.sawAdaLeave();
    }).observe(document.body, { childList: true, subtree: true });
  });

  const before = sockets.length;
  await sockets.at(-1).break();
  await eventually(() => sockets.length, (count) => count > before, "another connection");
  assert.match(sockets.at(-1).url, /[?&]reconnect=1&|[?&]reconnect=1$/);
  await ada.locator('[data-testid="connection-state"][data-state="connected"]').waitFor({ state: "attached" });
  for (const page of [ada, ben]) {
    const { framesDecoded } = await received(page, "video");
    await eventually(() => received(page, "video"), (v) => v.framesDecoded > framesDecoded + 20, "video after it");
  }
  await ada.getByTestId("chat-toggle").click();
  await ben.getByTestId("chat-toggle").click();
  await ada.getByTestId("chat-input").fill("back again");
  await ada.getByTestId("chat-send").click();
  await ben.getByTestId("chat-message").getByText("back again").waitFor();
  assert.equal(await ada.evaluate(() => window.peerConnections.length), connections, "the same connections");
  assert.equal(adaLeft, false);
  await ada.context().close();
  await ben.context().close();
});

test("names that look like HTML are shown as they are", async () => {
  const name = '<img src=x onerror="document.title=1">';
  const page = await openPage(browser);
  await join(page, server.url, "<script>", name);
  await page.getByTestId("participant-tile").getByText(name).waitFor();
  assert.equal(await page.locator("img").count(), 0);
  assert.notEqual(await page.title(), "1");
  await page.context().close();
});

test("a refusal is shown with the words of the server", async () => {
  const page = await openPage(browser);
  await page.route("**/api/dev/token", (route) => route.fulfill({ status: 200, json: { token: "no.good.token" } }));
  await page.goto(`${server.url}/?room=x`);
  await page.getByTestId("name-input").fill("Eve");
  await page.getByTestId("join-button").click();
  await page.getByTestId("error-message").waitFor();
  assert.match(await page.getByTestId("error-message").innerText(), /token/);
  await page.context().close();
});
