// A camera or microphone before the meeting.

import { useCallback, useEffect, useState } from "react";

export interface Preview {
  /** Wanted on; `stream` is there when that worked. */
  on: boolean;
  failed: boolean;
  stream?: MediaStream;
  devices: MediaDeviceInfo[];
  deviceId?: string;
  toggle: () => void;
  choose: (deviceId: string) => void;
  stop: () => void;
}

export function usePreview(kind: "audio" | "video"): Preview {
  const [on, setOn] = useState(true);
  const [failed, setFailed] = useState(false);
  const [stream, setStream] = useState<MediaStream>();
  const [devices, setDevices] = useState<MediaDeviceInfo[]>([]);
  const [deviceId, setDeviceId] = useState<string>();

  useEffect(() => {
    if (!on) return;
    let current: MediaStream | undefined;
    let over = false;
    const wanted: MediaTrackConstraints = deviceId ? { deviceId: { ideal: deviceId } } : {};
    const constraints = kind === "video" ? { video: { ...wanted, width: 1280, height: 720 } } : { audio: wanted };
    // Missing where the page is neither on localhost nor on https.
    const media = navigator.mediaDevices as MediaDevices | undefined;
    const open = media ? media.getUserMedia(constraints) : Promise.reject(new Error("no devices"));
    open
      .then(async (opened) => {
        current = opened;
        if (over) return stopAll(opened);
        setFailed(false);
        setStream(opened);
        const all = await navigator.mediaDevices.enumerateDevices();
        if (!over) setDevices(all.filter((device) => device.kind === `${kind}input`));
      })
      .catch(() => {
        if (!over) setFailed(true);
      });
    return () => {
      over = true;
      if (current) stopAll(current);
      setStream(undefined);
    };
  }, [on, deviceId, kind]);

  return {
    on,
    failed,
    stream,
    devices,
    deviceId: deviceId ?? stream?.getTracks()[0]?.getSettings().deviceId,
    toggle: useCallback(() => setOn((value) => !value), []),
    choose: setDeviceId,
    stop: useCallback(() => {
      if (stream) stopAll(stream);
    }, [stream]),
  };
}

function stopAll(stream: MediaStream) {
  for (const track of stream.getTracks()) track.stop();
}
