// What is written in the meeting.

import type { useChat } from "@livekit/components-react";
import { type FormEvent, useEffect, useRef, useState } from "react";
import { Icon } from "./Icon";
import { Panel } from "./Panel";
import { text } from "./text";

export function Chat({ chat, onClose }: { chat: ReturnType<typeof useChat>; onClose: () => void }) {
  const { chatMessages, send, isSending } = chat;
  const [draft, setDraft] = useState("");
  const end = useRef<HTMLLIElement>(null);
  useEffect(() => {
    end.current?.scrollIntoView({ block: "end" });
  }, [chatMessages.length]);
  async function submit(event: FormEvent) {
    event.preventDefault();
    const message = draft.trim();
    if (!message) return;
    setDraft("");
    try {
      await send(message);
    } catch {
      setDraft(message);
    }
  }
  return (
    <Panel title={text.chat} onClose={onClose}>
      {chatMessages.length === 0 && <p className="hint">{text.chatEmpty}</p>}
      <ul className="messages">
        {chatMessages.map((message) => (
          <li key={message.id} data-testid="chat-message" className={message.from?.isLocal ? "own" : ""}>
            <header>
              <strong>{message.from?.isLocal ? text.you : message.from?.name || message.from?.identity}</strong>
              <time>{new Date(message.timestamp).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}</time>
            </header>
            <p>{message.message}</p>
          </li>
        ))}
        <li ref={end} aria-hidden />
      </ul>
      <form className="composer" onSubmit={submit}>
        <input
          data-testid="chat-input"
          value={draft}
          maxLength={5000}
          placeholder={text.chatPlaceholder}
          aria-label={text.chatPlaceholder}
          onChange={(event) => setDraft(event.target.value)}
        />
        <button className="round on" data-testid="chat-send" aria-label={text.send} title={text.send} disabled={isSending}>
          <Icon name="send" />
        </button>
      </form>
    </Panel>
  );
}
