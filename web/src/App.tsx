// The page's three places: the entry, the meeting, and what is said after it.

import { DisconnectReason } from "livekit-client";
import { useCallback, useState } from "react";
import { type Admission, roomOf } from "./entry";
import { type Choices, Lobby } from "./Lobby";
import { Meeting } from "./Meeting";
import { text } from "./text";

type Place =
  | { at: "lobby"; message?: string; failed?: boolean }
  | { at: "meeting"; admission: Admission; choices: Choices };

function farewell(reason?: DisconnectReason): { message: string; failed: boolean } {
  switch (reason) {
    case undefined:
    case DisconnectReason.CLIENT_INITIATED:
      return { message: text.left, failed: false };
    case DisconnectReason.DUPLICATE_IDENTITY:
      return { message: text.duplicate, failed: true };
    case DisconnectReason.PARTICIPANT_REMOVED:
      return { message: text.removed, failed: true };
    case DisconnectReason.ROOM_DELETED:
    case DisconnectReason.ROOM_CLOSED:
    case DisconnectReason.SERVER_SHUTDOWN:
      return { message: text.ended, failed: true };
    default:
      return { message: text.lost, failed: true };
  }
}

export function App() {
  const [place, setPlace] = useState<Place>({ at: "lobby" });
  const enter = useCallback((admission: Admission, choices: Choices) => {
    setPlace({ at: "meeting", admission, choices });
  }, []);
  const leave = useCallback((reason?: DisconnectReason) => {
    setPlace({ at: "lobby", ...farewell(reason) });
  }, []);
  const fail = useCallback((error: Error) => {
    setPlace({ at: "lobby", message: `${text.failed}: ${error.message}`, failed: true });
  }, []);
  if (place.at === "meeting") {
    return (
      <Meeting
        admission={place.admission}
        choices={place.choices}
        onLeave={leave}
        onFail={fail}
      />
    );
  }
  return (
    <Lobby
      room={roomOf(new URL(location.href))}
      message={place.message}
      failed={place.failed ?? false}
      onEnter={enter}
    />
  );
}
