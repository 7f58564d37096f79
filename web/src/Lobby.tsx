// Before the meeting: name, room, and a look at camera and microphone.

import { type ComponentProps, type FormEvent, useEffect, useState } from "react";
import { type Admission, admit } from "./entry";
import { Icon } from "./Icon";
import { LevelMeter } from "./LevelMeter";
import { type Preview, usePreview } from "./preview";
import { text } from "./text";

export interface Choices {
  name: string;
  room: string;
  camera: boolean;
  microphone: boolean;
  cameraId?: string;
  microphoneId?: string;
}

interface Props {
  room: string;
  message?: string;
  failed: boolean;
  onEnter: (admission: Admission, choices: Choices) => void;
}

const NAME_KEY = "moim.name";

export function Lobby({ room: givenRoom, message, failed, onEnter }: Props) {
  const [name, setName] = useState(() => localStorage.getItem(NAME_KEY) ?? "");
  const [room, setRoom] = useState(givenRoom);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(failed ? message : undefined);
  const camera = usePreview("video");
  const microphone = usePreview("audio");
  const ready = name.trim() !== "" && room.trim() !== "" && !busy;

  useEffect(() => {
    document.title = "moim";
  }, []);

  async function enter(event: FormEvent) {
    event.preventDefault();
    if (!ready) return;
    setBusy(true);
    setError(undefined);
    try {
      const admission = await admit(new URL(location.href), room.trim(), name.trim());
      localStorage.setItem(NAME_KEY, name.trim());
      const choices = {
        name: name.trim(),
        room: room.trim(),
        camera: camera.on && camera.stream !== undefined,
        microphone: microphone.on && microphone.stream !== undefined,
        cameraId: camera.deviceId,
        microphoneId: microphone.deviceId,
      };
      camera.stop();
      microphone.stop();
      onEnter(admission, choices);
    } catch (caught) {
      setError(caught instanceof Error ? caught.message : String(caught));
      setBusy(false);
    }
  }

  return (
    <main className="lobby">
      <header className="brand">
        <span className="brand-mark" aria-hidden>
          <Icon name="people" />
        </span>
        <h1>
          moim <span lang="ko">모임</span>
        </h1>
        <p>{text.tagline}</p>
      </header>
      <div className="lobby-body">
        <section className="preview" aria-label={text.camera}>
          {camera.stream ? (
            <video
              data-testid="preview-video"
              autoPlay
              muted
              playsInline
              ref={(element) => {
                if (element && element.srcObject !== camera.stream) {
                  element.srcObject = camera.stream ?? null;
                }
              }}
            />
          ) : (
            <p className="preview-empty">{camera.failed ? text.cameraFailed : text.cameraOff}</p>
          )}
          <div className="preview-buttons">
            <PreviewButton
              testId="preview-mic-toggle"
              preview={microphone}
              label={microphone.on ? text.mute : text.unmute}
              icon={microphone.on ? "mic" : "mic-off"}
            />
            <PreviewButton
              testId="preview-camera-toggle"
              preview={camera}
              label={camera.on ? text.cameraStop : text.cameraOn}
              icon={camera.on ? "camera" : "camera-off"}
            />
          </div>
          <LevelMeter stream={microphone.stream} />
        </section>
        <form className="card" onSubmit={enter}>
          {message && !failed && <p role="status">{message}</p>}
          {error && (
            <p role="alert" className="error" data-testid="error-message">
              {error}
            </p>
          )}
          {microphone.failed && microphone.on && <p className="hint">{text.microphoneFailed}</p>}
          <label>
            {text.name}
            <input
              data-testid="name-input"
              value={name}
              maxLength={100}
              autoComplete="name"
              required
              onChange={(event) => setName(event.target.value)}
            />
          </label>
          <label>
            {text.room}
            <input
              data-testid="room-input"
              value={room}
              maxLength={100}
              required
              onChange={(event) => setRoom(event.target.value)}
            />
          </label>
          <DeviceSelect label={text.camera} preview={camera} />
          <DeviceSelect label={text.microphone} preview={microphone} />
          <button className="primary" data-testid="join-button" disabled={!ready}>
            {busy ? text.joining : message && !failed ? text.rejoin : text.join}
          </button>
        </form>
      </div>
    </main>
  );
}

interface PreviewButtonProps {
  testId: string;
  preview: Preview;
  label: string;
  icon: ComponentProps<typeof Icon>["name"];
}

function PreviewButton({ testId, preview, label, icon }: PreviewButtonProps) {
  return (
    <button
      type="button"
      className="round"
      data-testid={testId}
      aria-pressed={preview.on}
      aria-label={label}
      title={label}
      onClick={preview.toggle}
    >
      <Icon name={icon} />
    </button>
  );
}

function DeviceSelect({ label, preview }: { label: string; preview: Preview }) {
  if (preview.devices.length < 1) return null;
  return (
    <label>
      {label}
      <select value={preview.deviceId ?? ""} onChange={(event) => preview.choose(event.target.value)}>
        {preview.devices.map((device) => (
          <option key={device.deviceId} value={device.deviceId}>
            {device.label || label}
          </option>
        ))}
      </select>
    </label>
  );
}
