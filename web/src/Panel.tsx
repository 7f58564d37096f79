// The frame of what opens beside the stage.

import type { ReactNode } from "react";
import { Icon } from "./Icon";
import { text } from "./text";

export function Panel({ title, onClose, children }: { title: string; onClose: () => void; children: ReactNode }) {
  return (
    <aside className="panel" aria-label={title}>
      <header>
        <h2>{title}</h2>
        <button className="plain" aria-label={text.close} title={text.close} onClick={onClose}>
          <Icon name="close" />
        </button>
      </header>
      {children}
    </aside>
  );
}
