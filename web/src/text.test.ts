import { expect, test } from "vitest";
import { en, ko, textFor } from "./text";

test("both languages say everything, and not the same", () => {
  expect(Object.keys(ko).sort()).toEqual(Object.keys(en).sort());
  for (const key of Object.keys(en) as (keyof typeof en)[]) {
    expect(ko[key].trim(), key).not.toBe("");
    expect(ko[key], key).not.toBe(en[key]);
  }
});

test("the browser's first known language is taken", () => {
  expect(textFor(["ko-KR", "en"])).toBe(ko);
  expect(textFor(["fr", "ko"])).toBe(ko);
  expect(textFor(["en-GB", "ko"])).toBe(en);
  expect(textFor(["de"])).toBe(en);
});
