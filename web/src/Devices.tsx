// Which camera, microphone and speaker are used.

import { useMediaDeviceSelect } from "@livekit/components-react";
import { Panel } from "./Panel";
import { text } from "./text";

export function Devices({ onClose }: { onClose: () => void }) {
  return (
    <Panel title={text.devices} onClose={onClose}>
      <Choice kind="videoinput" label={text.camera} />
      <Choice kind="audioinput" label={text.microphone} />
      <Choice kind="audiooutput" label={text.speaker} />
    </Panel>
  );
}

function Choice({ kind, label }: { kind: MediaDeviceKind; label: string }) {
  const { devices, activeDeviceId, setActiveMediaDevice } = useMediaDeviceSelect({ kind });
  if (devices.length === 0) return null;
  return (
    <label>
      {label}
      <select value={activeDeviceId} onChange={(event) => void setActiveMediaDevice(event.target.value)}>
        {devices.map((device) => (
          <option key={device.deviceId} value={device.deviceId}>
            {device.label || label}
          </option>
        ))}
      </select>
    </label>
  );
}
