// How the page gets into a room: what its address says, and the token.

import { text } from "./text";

export interface Admission {
  token: string;
  url: string;
}

/** The room that an address names: `/r/NAME` or `?room=NAME`. */
export function roomOf(address: URL): string {
  const path = address.pathname.match(/^\/r\/([^/]+)$/);
  if (path?.[1]) {
    try {
      return decodeURIComponent(path[1]);
    } catch {
      return "";
    }
  }
  return address.searchParams.get("room") ?? "";
}

/** The address by which others join a room. */
export function linkTo(room: string, origin: string): string {
  return `${origin}/r/${encodeURIComponent(room)}`;
}

/** The server's address for signaling: the page's own. */
export function serverUrl(address: URL): string {
  return `${address.protocol === "https:" ? "wss" : "ws"}://${address.host}`;
}

/** A token from the link, else from the server, which gives them out in development mode. */
export async function admit(address: URL, room: string, name: string): Promise<Admission> {
  const url = serverUrl(address);
  const given = address.searchParams.get("token");
  if (given) return { token: given, url };
  const response = await fetch("/api/dev/token", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ room, name }),
  });
  if (response.status === 404) throw new Error(text.needsInvitation);
  if (!response.ok) throw new Error(await response.text());
  const answer = (await response.json()) as { token: string };
  return { token: answer.token, url };
}
