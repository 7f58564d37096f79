// Who is seen: everybody alike, or one large and the others small.

import {
  type TrackReferenceOrPlaceholder,
  VideoTrack,
  isTrackReference,
  useIsMuted,
  useIsSpeaking,
  useParticipantInfo,
  useSpeakingParticipants,
  useTracks,
} from "@livekit/components-react";
import { type Participant, Track } from "livekit-client";
import { useEffect, useRef, useState } from "react";
import { Icon } from "./Icon";
import { text } from "./text";

export type View = "gallery" | "speaker";

export function Stage({ view }: { view: View }) {
  const tracks = useTracks(
    [
      { source: Track.Source.Camera, withPlaceholder: true },
      { source: Track.Source.ScreenShare, withPlaceholder: false },
    ],
    { onlySubscribed: false },
  );
  const large = useLarge(tracks);
  const screen = tracks.find((track) => track.source === Track.Source.ScreenShare);
  const focus = screen ?? (view === "speaker" ? large : undefined);
  const others = tracks.filter((track) => track !== focus);
  const [grid, columns] = useColumns(tracks.length);
  if (focus) {
    return (
      <section className="stage focus">
        <div className="focus-main">
          <Tile track={focus} />
        </div>
        <div className="focus-strip">
          {others.map((track) => (
            <Tile key={keyOf(track)} track={track} />
          ))}
        </div>
      </section>
    );
  }
  return (
    <section
      ref={grid}
      className="stage gallery"
      style={{ gridTemplateColumns: `repeat(${columns}, minmax(0, 1fr))` }}
    >
      {tracks.map((track) => (
        <Tile key={keyOf(track)} track={track} />
      ))}
    </section>
  );
}

const keyOf = (track: TrackReferenceOrPlaceholder) => `${track.participant.sid}:${track.source}`;

/** The camera of who speaks, and of who spoke last while nobody does; never one's own while others are there. */
function useLarge(tracks: TrackReferenceOrPlaceholder[]) {
  const speaking = useSpeakingParticipants().find((participant) => !participant.isLocal);
  const [last, setLast] = useState<Participant>();
  useEffect(() => {
    if (speaking) setLast(speaking);
  }, [speaking]);
  const cameras = tracks.filter((track) => track.source === Track.Source.Camera);
  return (
    cameras.find((track) => track.participant === last) ??
    cameras.find((track) => !track.participant.isLocal) ??
    cameras[0]
  );
}

/** The number of columns in which the tiles are largest. */
function useColumns(count: number): [React.RefObject<HTMLElement | null>, number] {
  const element = useRef<HTMLElement>(null);
  const [size, setSize] = useState({ width: 16, height: 9 });
  useEffect(() => {
    const current = element.current;
    if (!current) return;
    const observer = new ResizeObserver(([entry]) => entry && setSize(entry.contentRect));
    observer.observe(current);
    return () => observer.disconnect();
  }, [count]);
  let best = 1;
  let widest = 0;
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const width = Math.min(size.width / columns, ((size.height / rows) * 16) / 9);
    if (width > widest) [best, widest] = [columns, width];
  }
  return [element, best];
}

function Tile({ track }: { track: TrackReferenceOrPlaceholder }) {
  const { participant, source } = track;
  const speaking = useIsSpeaking(participant);
  const { name, identity } = useParticipantInfo({ participant });
  const muted = useIsMuted({ participant, source: Track.Source.Microphone });
  const hidden = useIsMuted(track);
  const shown = isTrackReference(track) && track.publication.isSubscribed !== false && !hidden;
  const isScreen = source === Track.Source.ScreenShare;
  const label = name || identity || "";
  return (
    <article
      className={`tile${speaking ? " speaking" : ""}${isScreen ? " screen" : ""}`}
      data-testid="participant-tile"
      data-identity={identity}
      data-source={source}
      aria-label={label}
    >
      {shown ? (
        <VideoTrack
          trackRef={track}
          className={participant.isLocal && !isScreen ? "mirrored" : ""}
          manageSubscription={false}
        />
      ) : (
        <span className="avatar" aria-hidden>
          {[...label][0]?.toUpperCase()}
        </span>
      )}
      <footer>
        {muted && !isScreen && <Icon name="mic-off" />}
        <span>
          {label}
          {participant.isLocal && ` (${text.you})`}
          {isScreen && ` – ${text.screenOf}`}
        </span>
      </footer>
    </article>
  );
}
