import { expect, test } from "vitest";
import { linkTo, roomOf, serverUrl } from "./entry";

test("a link names its room in either form", () => {
  expect(roomOf(new URL("https://x/r/weekly%20talk"))).toBe("weekly talk");
  expect(roomOf(new URL("https://x/?room=%ED%9A%8C%EC%9D%98"))).toBe("회의");
  expect(roomOf(new URL("https://x/"))).toBe("");
  expect(roomOf(new URL("https://x/r/%E0%A4%A"))).toBe("");
});

test("a link leads back to the room that it was made for", () => {
  const room = "a/b ?&회의";
  expect(roomOf(new URL(linkTo(room, "https://x")))).toBe(room);
});

test("signaling is as secure as the page", () => {
  expect(serverUrl(new URL("https://meet.example:8443/r/a"))).toBe("wss://meet.example:8443");
  expect(serverUrl(new URL("http://localhost:7880/"))).toBe("ws://localhost:7880");
});
