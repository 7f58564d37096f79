// Makes the README's picture: a meeting of nine, one of whom speaks. `MOIM_BIN=… node screenshot.js [FILE]`.

import { eventually, openBrowser, openPage, received } from "./browser.js";
import { startServer } from "./server.js";

const file = process.argv[2] ?? new URL("../../deploy/screenshot.png", import.meta.url).pathname;
const portraits = new URL("./portraits.js", import.meta.url).pathname;
const client = new URL("./node_modules/livekit-client/dist/livekit-client.umd.js", import.meta.url).pathname;

/** Who is there beside Ada, who looks on: the name, the portrait, and whether the microphone is on. */
const guests = [
  { name: "김민준", portrait: "minjun", listens: true },
  { name: "Zainab Haddad", portrait: "zainab" },
  { name: "Tomás Rey", portrait: "tomas", listens: true },
  { name: "Noor Bakari", portrait: "noor", speaks: true },
  { name: "Ingrid Solberg", portrait: "ingrid", listens: true },
  { name: "Kwame Mensah", portrait: "kwame" },
  { name: "이서연", portrait: "seoyeon", listens: true },
  { name: "George Hall", portrait: "george", listens: true },
];

const messages = [
  ["Kwame Mensah", "The draft of the schedule is in the shared folder."],
  ["이서연", "감사합니다! 지금 읽고 있어요."],
  ["Ingrid Solberg", "Could we move the review to Thursday?"],
  ["Tomás Rey", "Thursday works for me."],
];

/** All guests in one page: each has a connection of their own. */
async function openGuests(browser, url) {
  const page = await openPage(browser);
  await page.goto(`${url}/metrics`);
  for (const path of [client, portraits]) await page.addScriptTag({ path });
  // Chromium starts sound only on a page that somebody has touched.
  await page.mouse.click(5, 5);
  await page.evaluate(async (guests) => {
    const { Room, Track } = window.LivekitClient;
    window.rooms = {};
    for (const { name, portrait, listens, speaks } of guests) {
      const body = JSON.stringify({ room: "weekly", name });
      const headers = { "content-type": "application/json" };
      const answer = await fetch("/api/dev/token", { method: "POST", headers, body });
      const { token } = await answer.json();
      const room = new Room();
      await room.connect(location.origin.replace("http", "ws"), token, { autoSubscribe: false });
      const stream = window.personStream(portrait, Boolean(speaks));
      const [camera] = stream.getVideoTracks();
      const [microphone] = stream.getAudioTracks();
      const person = room.localParticipant;
      await person.publishTrack(camera, {
        source: Track.Source.Camera,
        simulcast: false,
        videoEncoding: { maxBitrate: 900_000, maxFramerate: 8 },
        degradationPreference: "maintain-resolution",
      });
      const audio = await person.publishTrack(microphone, { source: Track.Source.Microphone, dtx: false });
      if (listens || speaks) await audio.mute();
      window.rooms[name] = room;
    }
  }, guests);
  return page;
}

/** Ada joins by the meeting page, and is drawn too. */
async function openAda(browser, url) {
  const page = await openPage(browser);
  await page.addInitScript({ path: portraits });
  await page.addInitScript(() => {
    navigator.mediaDevices.getUserMedia = async ({ video }) => {
      const stream = window.personStream("ada", false);
      const unwanted = video ? stream.getAudioTracks() : stream.getVideoTracks();
      unwanted.forEach((track) => stream.removeTrack(track));
      return stream;
    };
  });
  await page.goto(`${url}/r/weekly`);
  await page.getByTestId("preview-video").waitFor();
  await page.getByTestId("name-input").fill("Ada");
  await page.getByTestId("join-button").click();
  await page.locator('[data-testid="connection-state"][data-state="connected"]').waitFor({ state: "attached" });
  await page.getByTestId("chat-toggle").click();
  return page;
}

const server = await startServer();
const browser = await openBrowser();
try {
  const company = await openGuests(browser, server.url);
  const ada = await openAda(browser, server.url);
  for (const [name, text] of messages) {
    await company.evaluate(
      ({ name, text }) => window.rooms[name].localParticipant.sendText(text, { topic: "lk.chat" }),
      { name, text },
    );
    await ada.getByTestId("chat-message").getByText(text).waitFor();
  }
  const isSharp = ({ streams, widths }) => streams >= guests.length && Math.min(...widths) >= 640;
  await eventually(() => received(ada, "video"), isSharp, "everybody's picture", 60_000);
  const { framesDecoded } = await received(ada, "video");
  const decodedMore = (video) => video.framesDecoded > framesDecoded + 20 * guests.length;
  await eventually(() => received(ada, "video"), decodedMore, "moving pictures", 60_000);
  const speaker = guests.find(({ speaks }) => speaks).name;
  await company.evaluate((name) => window.rooms[name].localParticipant.setMicrophoneEnabled(true), speaker);
  await ada.locator(".tile.speaking").waitFor({ timeout: 60_000 });
  await ada.mouse.move(0, 0);
  await ada.screenshot({ path: file });
} finally {
  await browser.close();
  await server.stop();
}
