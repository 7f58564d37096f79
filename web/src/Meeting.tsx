// The meeting: the room's connection around the stage, the bar and the side panels.

import {
  LiveKitRoom,
  RoomAudioRenderer,
  useAudioPlayback,
  useChat,
  useConnectionState,
  useRoomContext,
} from "@livekit/components-react";
import { ConnectionState, type DisconnectReason, type RoomOptions } from "livekit-client";
import { useEffect, useMemo, useState } from "react";
import { Bar, type Panel } from "./Bar";
import { Chat } from "./Chat";
import { Devices } from "./Devices";
import type { Admission } from "./entry";
import type { Choices } from "./Lobby";
import { People } from "./People";
import { Stage, type View } from "./Stage";
import { text } from "./text";

interface Props {
  admission: Admission;
  choices: Choices;
  onLeave: (reason?: DisconnectReason) => void;
  onFail: (error: Error) => void;
}

export function Meeting({ admission, choices, onLeave, onFail }: Props) {
  const options = useMemo<RoomOptions>(
    () => ({
      adaptiveStream: true,
      dynacast: true,
      videoCaptureDefaults: { deviceId: choices.cameraId },
      audioCaptureDefaults: { deviceId: choices.microphoneId },
    }),
    [choices],
  );
  const [joined, setJoined] = useState(false);
  useEffect(() => {
    document.title = `${choices.room} – moim`;
  }, [choices.room]);
  return (
    <LiveKitRoom
      className="meeting"
      serverUrl={admission.url}
      token={admission.token}
      connect
      video={choices.camera}
      audio={choices.microphone}
      options={options}
      onConnected={() => setJoined(true)}
      onDisconnected={(reason) => joined && onLeave(reason)}
      onError={(error) => !joined && onFail(error)}
    >
      <Inside room={choices.room} />
      <RoomAudioRenderer />
    </LiveKitRoom>
  );
}

function Inside({ room }: { room: string }) {
  const [panel, setPanel] = useState<Panel>();
  const [view, setView] = useState<View>("gallery");
  const [problem, setProblem] = useState<string>();
  const chat = useChat();
  const [read, setRead] = useState(0);
  const unread = panel === "chat" ? 0 : chat.chatMessages.length - read;

  useEffect(() => {
    if (panel === "chat") setRead(chat.chatMessages.length);
  }, [panel, chat.chatMessages.length]);

  const toggle = (name: Panel) => setPanel((open) => (open === name ? undefined : name));
  return (
    <>
      <Status />
      {problem && (
        <p role="alert" className="banner warn">
          {problem}{" "}
          <button className="plain" onClick={() => setProblem(undefined)}>
            {text.close}
          </button>
        </p>
      )}
      <div className="meeting-body">
        <Stage view={view} />
        {panel === "chat" && <Chat chat={chat} onClose={() => setPanel(undefined)} />}
        {panel === "people" && <People onClose={() => setPanel(undefined)} />}
        {panel === "devices" && <Devices onClose={() => setPanel(undefined)} />}
      </div>
      <Bar
        room={room}
        panel={panel}
        unread={unread}
        view={view}
        onPanel={toggle}
        onView={setView}
        onProblem={setProblem}
      />
    </>
  );
}

function Status() {
  const state = useConnectionState();
  const { canPlayAudio, startAudio } = useAudioPlayback(useRoomContext());
  const words: Record<ConnectionState, string> = {
    [ConnectionState.Connecting]: text.connecting,
    [ConnectionState.Connected]: text.connected,
    [ConnectionState.Reconnecting]: text.reconnecting,
    [ConnectionState.SignalReconnecting]: text.reconnecting,
    [ConnectionState.Disconnected]: text.disconnected,
  };
  const calm = state === ConnectionState.Connected;
  return (
    <>
      <p
        role="status"
        data-testid="connection-state"
        data-state={state}
        className={calm ? "visually-hidden" : "banner"}
      >
        {words[state]}
      </p>
      {!canPlayAudio && calm && (
        <button className="banner warn" onClick={() => void startAudio()}>
          {text.soundBlocked}
        </button>
      )}
    </>
  );
}
