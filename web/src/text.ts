// Every word that the page shows, in the languages that it speaks.

export const en = {
  tagline: "Meet, without leaving your own house",
  name: "Your name",
  room: "Room",
  join: "Join the meeting",
  joining: "Joining…",
  camera: "Camera",
  microphone: "Microphone",
  speaker: "Speaker",
  cameraOff: "The camera is off",
  cameraFailed: "The camera cannot be used: it is missing, in use, or not permitted.",
  microphoneFailed: "The microphone cannot be used: it is missing, in use, or not permitted.",
  shareFailed: "The screen could not be shared.",
  turnOn: "Turn on",
  turnOff: "Turn off",
  mute: "Mute",
  unmute: "Unmute",
  cameraOn: "Start camera",
  cameraStop: "Stop camera",
  share: "Share screen",
  shareStop: "Stop sharing",
  chat: "Chat",
  chatEmpty: "No messages yet. What is written here goes to everybody in the room.",
  chatPlaceholder: "Write to everybody",
  send: "Send",
  people: "People",
  you: "you",
  muted: "muted",
  layoutSpeaker: "Speaker view",
  layoutGallery: "Gallery view",
  devices: "Devices",
  copyLink: "Copy link",
  copied: "Copied",
  leave: "Leave",
  left: "You have left the meeting.",
  rejoin: "Join again",
  close: "Close",
  connecting: "Connecting…",
  connected: "Connected",
  reconnecting: "The connection is interrupted. Reconnecting…",
  disconnected: "Not connected",
  screenOf: "screen",
  duplicate: "You have joined this meeting from another window.",
  removed: "You were removed from the meeting.",
  ended: "The meeting has ended.",
  lost: "The connection was lost.",
  failed: "The meeting could not be joined",
  needsInvitation: "This server lets in guests by invitation only. Use the link that you were sent.",
  soundBlocked: "Click to hear the others",
};

export type Text = typeof en;

export const ko: Text = {
  tagline: "우리 서버에서, 우리끼리 모입니다",
  name: "이름",
  room: "회의실",
  join: "회의 참가",
  joining: "참가하는 중…",
  camera: "카메라",
  microphone: "마이크",
  speaker: "스피커",
  cameraOff: "카메라가 꺼져 있습니다",
  cameraFailed: "카메라를 사용할 수 없습니다. 연결되어 있는지, 다른 곳에서 쓰는 중인지, 권한이 있는지 확인하세요.",
  microphoneFailed: "마이크를 사용할 수 없습니다. 연결되어 있는지, 다른 곳에서 쓰는 중인지, 권한이 있는지 확인하세요.",
  shareFailed: "화면을 공유하지 못했습니다.",
  turnOn: "켜기",
  turnOff: "끄기",
  mute: "음소거",
  unmute: "음소거 해제",
  cameraOn: "카메라 켜기",
  cameraStop: "카메라 끄기",
  share: "화면 공유",
  shareStop: "공유 중지",
  chat: "채팅",
  chatEmpty: "아직 메시지가 없습니다. 여기에 쓴 글은 회의실의 모두에게 보입니다.",
  chatPlaceholder: "모두에게 쓰기",
  send: "보내기",
  people: "참가자",
  you: "나",
  muted: "음소거됨",
  layoutSpeaker: "발표자 보기",
  layoutGallery: "갤러리 보기",
  devices: "장치",
  copyLink: "링크 복사",
  copied: "복사됨",
  leave: "나가기",
  left: "회의에서 나왔습니다.",
  rejoin: "다시 참가",
  close: "닫기",
  connecting: "연결하는 중…",
  connected: "연결됨",
  reconnecting: "연결이 끊겼습니다. 다시 연결하는 중…",
  disconnected: "연결되지 않음",
  screenOf: "화면",
  duplicate: "다른 창에서 이 회의에 참가했습니다.",
  removed: "회의에서 내보내졌습니다.",
  ended: "회의가 끝났습니다.",
  lost: "연결이 끊겼습니다.",
  failed: "회의에 참가하지 못했습니다",
  needsInvitation: "이 서버는 초대받은 사람만 들어올 수 있습니다. 받은 링크를 사용하세요.",
  soundBlocked: "눌러서 소리 듣기",
};

/** The dictionary of the first language in the list that the page speaks. */
export function textFor(languages: readonly string[]): Text {
  for (const language of languages) {
    const primary = language.toLowerCase().split("-")[0];
    if (primary === "ko") return ko;
    if (primary === "en") return en;
  }
  return en;
}

export const language = () => (textFor(navigator.languages) === ko ? "ko" : "en");
export const text: Text =
  typeof navigator === "undefined" ? en : textFor(navigator.languages);
