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
