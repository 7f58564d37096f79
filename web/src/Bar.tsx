// The buttons below the stage.

import { useLocalParticipant, useParticipants, useRoomContext } from "@livekit/components-react";
import { useState } from "react";
import { linkTo } from "./entry";
import { Icon } from "./Icon";
import type { View } from "./Stage";
import { text } from "./text";

export type Panel = "chat" | "people" | "devices";

interface Props {
  room: string;
  panel?: Panel;
  unread: number;
  view: View;
  onPanel: (panel: Panel) => void;
  onView: (view: View) => void;
  onProblem: (problem: string) => void;
}

export function Bar({ room, panel, unread, view, onPanel, onView, onProblem }: Props) {
  const { localParticipant, isMicrophoneEnabled, isCameraEnabled, isScreenShareEnabled } =
    useLocalParticipant();
  const connection = useRoomContext();
  const people = useParticipants().length;
  const [copied, setCopied] = useState(false);
  const attempt = (action: Promise<unknown>, problem: string) =>
    void action.catch((error: unknown) => {
      // Closing the browser's own dialog is an answer, not a problem.
      if (!(error instanceof DOMException && error.name === "NotAllowedError" && problem === text.shareFailed)) {
        onProblem(problem);
      }
    });
  const copy = async () => {
    await navigator.clipboard.writeText(linkTo(room, location.origin));
    setCopied(true);
    setTimeout(() => setCopied(false), 2000);
  };
  return (
    <nav className="bar">
      <div className="bar-room">
        <strong>{room}</strong>
        <button className="plain" onClick={() => void copy()}>
          <Icon name="link" /> {copied ? text.copied : text.copyLink}
        </button>
      </div>
      <div className="bar-main">
        <Button
          id="mic-toggle"
          icon={isMicrophoneEnabled ? "mic" : "mic-off"}
          label={isMicrophoneEnabled ? text.mute : text.unmute}
          pressed={isMicrophoneEnabled}
          off={!isMicrophoneEnabled}
          onClick={() =>
            attempt(localParticipant.setMicrophoneEnabled(!isMicrophoneEnabled), text.microphoneFailed)
          }
        />
        <Button
          id="camera-toggle"
          icon={isCameraEnabled ? "camera" : "camera-off"}
          label={isCameraEnabled ? text.cameraStop : text.cameraOn}
          pressed={isCameraEnabled}
          off={!isCameraEnabled}
          onClick={() => attempt(localParticipant.setCameraEnabled(!isCameraEnabled), text.cameraFailed)}
        />
        <Button
          id="screen-share-toggle"
          icon={isScreenShareEnabled ? "screen-stop" : "screen"}
          label={isScreenShareEnabled ? text.shareStop : text.share}
          pressed={isScreenShareEnabled}
          onClick={() =>
            attempt(localParticipant.setScreenShareEnabled(!isScreenShareEnabled), text.shareFailed)
          }
        />
        <Button
          id="leave-button"
          icon="leave"
          label={text.leave}
          danger
          onClick={() => void connection.disconnect()}
        />
      </div>
      <div className="bar-side">
        <Button
          id="layout-toggle"
          icon={view === "gallery" ? "spotlight" : "grid"}
          label={view === "gallery" ? text.layoutSpeaker : text.layoutGallery}
          onClick={() => onView(view === "gallery" ? "speaker" : "gallery")}
        />
        <Button
          id="participants-toggle"
          icon="people"
          label={text.people}
          pressed={panel === "people"}
          badge={people}
          onClick={() => onPanel("people")}
        />
        <Button
          id="chat-toggle"
          icon="chat"
          label={text.chat}
          pressed={panel === "chat"}
          badge={unread}
          onClick={() => onPanel("chat")}
        />
        <Button
          id="device-menu"
          icon="gear"
          label={text.devices}
          pressed={panel === "devices"}
          onClick={() => onPanel("devices")}
        />
      </div>
    </nav>
  );
}

interface ButtonProps {
  id: string;
  icon: Parameters<typeof Icon>[0]["name"];
  label: string;
  pressed?: boolean;
  off?: boolean;
  danger?: boolean;
  badge?: number;
  onClick: () => void;
}

function Button({ id, icon, label, pressed, off, danger, badge, onClick }: ButtonProps) {
  const kind = danger ? " danger" : off ? " off" : pressed ? " on" : "";
  return (
    <button
      className={`round${kind}`}
      data-testid={id}
      aria-label={label}
      aria-pressed={pressed}
      title={label}
      onClick={onClick}
    >
      <Icon name={icon} />
      {badge ? <span className="badge">{badge}</span> : null}
    </button>
  );
}
