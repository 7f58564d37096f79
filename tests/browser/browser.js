// Chromium with a camera, a microphone and a screen that are not there.

import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const candidates = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

export async function openBrowser() {
  const executablePath = candidates.find((path) => path && existsSync(path));
  if (!executablePath) throw new Error("no Chromium found; set CHROMIUM to its path");
  return chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--use-fake-device-for-media-stream",
      "--use-fake-ui-for-media-stream",
      "--auto-accept-this-tab-capture",
      "--auto-select-desktop-capture-source=Entire screen",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      // Two pages share two cores: neither is to be slowed for being behind.
      "--disable-renderer-backgrounding",
      "--disable-backgrounding-occluded-windows",
    ],
  });
}

/** A page of its own profile, with its peer connections within reach of the test. */
export async function openPage(browser, { locale = "en-US" } = {}) {
  const context = await browser.newContext({
    locale,
    viewport: { width: 1280, height: 760 },
    permissions: ["camera", "microphone"],
  });
  const page = await context.newPage();
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") page.problems.push(message.text());
  });
  await page.addInitScript(() => {
    const Original = window.RTCPeerConnection;
    window.peerConnections = [];
    window.RTCPeerConnection = class extends Original {
      constructor(...parameters) {
        super(...parameters);
        window.peerConnections.push(this);
      }
    };
  });
  return page;
}

/** Sums over all received streams of a kind. */
export function received(page, kind) {
  return page.evaluate(async (kind) => {
    const sum = { framesDecoded: 0, totalAudioEnergy: 0, streams: 0, widths: [] };
    for (const connection of window.peerConnections) {
      for (const report of (await connection.getStats()).values()) {
        if (report.type !== "inbound-rtp" || report.kind !== kind) continue;
        sum.streams += 1;
        sum.framesDecoded += report.framesDecoded ?? 0;
        sum.totalAudioEnergy += report.totalAudioEnergy ?? 0;
        sum.widths.push(report.frameWidth ?? 0);
      }
    }
    return sum;
  }, kind);
}

/** Waits until `check` of what is measured holds; gives the last measurement. */
export async function eventually(measure, check, what, limit = 30_000) {
  const end = Date.now() + limit;
  let last;
  do {
    last = await measure();
    if (check(last)) return last;
    await new Promise((resolve) => setTimeout(resolve, 200));
  } while (Date.now() < end);
  throw new Error(`${what}: last measured ${JSON.stringify(last)}`);
}

export async function join(page, url, room, name) {
  await page.goto(`${url}/?room=${encodeURIComponent(room)}`);
  await page.getByTestId("preview-video").waitFor();
  await page.getByTestId("name-input").fill(name);
  await page.getByTestId("join-button").click();
  await page.locator('[data-testid="connection-state"][data-state="connected"]').waitFor({ state: "attached" });
}
