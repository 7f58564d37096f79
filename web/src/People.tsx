// Who is in the meeting.

import { useIsMuted, useIsSpeaking, useParticipantInfo, useParticipants } from "@livekit/components-react";
import { type Participant, Track } from "livekit-client";
import { Icon } from "./Icon";
import { Panel } from "./Panel";
import { text } from "./text";

export function People({ onClose }: { onClose: () => void }) {
  const participants = useParticipants();
  return (
    <Panel title={`${text.people} (${participants.length})`} onClose={onClose}>
      <ul className="people">
        {participants.map((participant) => (
          <Person key={participant.sid || participant.identity} participant={participant} />
        ))}
      </ul>
    </Panel>
  );
}

function Person({ participant }: { participant: Participant }) {
  const { name, identity } = useParticipantInfo({ participant });
  const muted = useIsMuted({ participant, source: Track.Source.Microphone });
  const speaking = useIsSpeaking(participant);
  const label = name || identity || "";
  return (
    <li data-testid="participant-item" className={speaking ? "speaking" : ""}>
      <span className="avatar small" aria-hidden>
        {[...label][0]?.toUpperCase()}
      </span>
      <span>
        {label}
        {participant.isLocal && ` (${text.you})`}
      </span>
      {muted ? (
        <span className="state" title={text.muted}>
          <Icon name="mic-off" />
          <span className="visually-hidden">{text.muted}</span>
        </span>
      ) : (
        <span className="state">
          <Icon name="mic" />
        </span>
      )}
    </li>
  );
}
