// livekit-client in Chromium: what only a real browser client shows.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventually, openBrowser } from "./browser.js";
import { startServer } from "./server.js";
import { openStudio } from "./studio.js";

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

/** Opens pages that have joined a room, for the length of a test. */
async function open(t, room, ...names) {
  const pages = [];
  for (const name of names) {
    const page = await openStudio(browser, server.url, room, name);
    t.after(() => page.context().close());
    pages.push(page);
  }
  return pages;
}

/** The names of those whom a page sees in its room. */
function others(page) {
  return page.evaluate(() => [...window.room.remoteParticipants.values()].map((p) => p.name).sort());
}

/** The sources of the tracks that a page receives media of. */
function heard(page) {
  return page.evaluate(async () => {
    const sources = [];
    for (const participant of window.room.remoteParticipants.values()) {
      for (const { track, source } of participant.trackPublications.values()) {
        const stats = await track?.receiver?.getStats();
        const packets = [...(stats?.values() ?? [])].find((each) => each.type === "inbound-rtp")?.packetsReceived ?? 0;
        if (packets > 20) sources.push(source);
      }
    }
    return sources.sort();
  });
}

for (const scenario of ["node-failure", "leave-full-reconnect"]) {
  test(`camera and microphone come back after ${scenario}`, async (t) => {
    const [ada, ben] = await open(t, `reconnect-${scenario}`, "ada", "ben");
    await ada.evaluate(() => window.room.localParticipant.enableCameraAndMicrophone());
    const both = (sources) => String(sources) === "camera,microphone";
    await eventually(() => heard(ben), both, "camera and microphone");
    await ada.evaluate((scenario) => {
      window.reconnected = new Promise((resolve) => window.room.once("reconnected", resolve));
      return window.room.simulateScenario(scenario);
    }, scenario);
    await ada.evaluate(() => window.reconnected);
    await eventually(() => heard(ben), both, "camera and microphone again");
    const own = () => ada.evaluate(() => [...window.room.localParticipant.trackPublications.values()].map((p) => p.source).sort());
    await eventually(own, both, "its own publications");
  });
}

test("who leaves while signaling is lost is gone after the resume", async (t) => {
  const [ada, ben, cho] = await open(t, "ghost", "ada", "ben", "cho");
  await eventually(() => others(ada), (names) => names.length === 2, "both others");
  await ada.context().setOffline(true);
  await ada.evaluate(() => {
    window.reconnected = new Promise((resolve) => window.room.once("reconnected", resolve));
    return window.room.simulateScenario("signal-reconnect");
  });
  await ben.evaluate(() => window.room.disconnect());
  await eventually(() => others(cho), (names) => String(names) === "ada", "the departure at another");
  await ada.context().setOffline(false);
  await ada.evaluate(() => window.reconnected);
  await eventually(() => others(ada), (names) => String(names) === "cho", "the departure after the resume", 5_000);
});

test("a microphone that is published muted and unmuted at once is heard", async (t) => {
  const [ada, ben] = await open(t, "push-to-talk", "ada", "ben");
  await ada.evaluate(async () => {
    const track = await window.LivekitClient.createLocalAudioTrack();
    await track.mute();
    const publishing = window.room.localParticipant.publishTrack(track);
    await track.unmute();
    await publishing;
  });
  await eventually(() => heard(ben), (sources) => String(sources) === "microphone", "the microphone", 10_000);
});

test("both channels of a stereo track are heard apart", async (t) => {
  const [ada, ben] = await open(t, "stereo", "ada", "ben");
  await ada.evaluate(async () => {
    const context = new AudioContext({ sampleRate: 48_000 });
    const merger = context.createChannelMerger(2);
    [440, 880].forEach((frequency, channel) => {
      const tone = new OscillatorNode(context, { frequency });
      tone.connect(merger, 0, channel);
      tone.start();
    });
    const sink = new MediaStreamAudioDestinationNode(context, { channelCount: 2 });
    merger.connect(sink);
    await window.room.localParticipant.publishTrack(sink.stream.getAudioTracks()[0], {
      source: "screen_share_audio",
      forceStereo: true,
      red: false,
      dtx: false,
    });
  });
  const loudness = () => ben.evaluate(async () => {
    const element = document.querySelector("audio");
    if (!element) return null;
    if (!window.channels) {
      const context = new AudioContext({ sampleRate: 48_000 });
      const splitter = context.createChannelSplitter(2);
      context.createMediaStreamSource(element.srcObject).connect(splitter);
      window.channels = [0, 1].map((channel) => {
        const analyser = new AnalyserNode(context, { fftSize: 32_768 });
        splitter.connect(analyser, channel);
        return analyser;
      });
    }
    return window.channels.map((analyser) => {
      const levels = new Float32Array(analyser.frequencyBinCount);
      analyser.getFloatFrequencyData(levels);
      const level = (frequency) => levels[Math.round((frequency * analyser.fftSize) / 48_000)];
      return level(440) - level(880);
    });
  });
  await eventually(loudness, (apart) => apart && apart[0] > 20 && apart[1] < -20, "440 Hz left, 880 Hz right", 10_000);
});

for (const videoCodec of ["vp9", "av1"]) {
  test(`the quality of who publishes ${videoCodec} on a perfect link is excellent`, async (t) => {
    const [ben] = await open(t, `quality-${videoCodec}`, "ben");
    const ada = await openStudio(browser, server.url, `quality-${videoCodec}`, "ada", { preset: "h360", videoCodec });
    t.after(() => ada.context().close());
    await eventually(() => heard(ben), (sources) => String(sources) === "camera", "the camera");
    const qualities = async () => [
      await ada.evaluate(() => window.room.localParticipant.connectionQuality),
      await ben.evaluate(() => [...window.room.remoteParticipants.values()][0].connectionQuality),
    ];
    const seen = await eventually(qualities, (both) => both.every((each) => each === "excellent"), "excellent twice");
    assert.deepEqual(seen, ["excellent", "excellent"]);
  });
}
