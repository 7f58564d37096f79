// Line icons, drawn here so that nothing is fetched from elsewhere.

const paths = {
  mic: "M12 3a3 3 0 0 1 3 3v6a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3zM5 11a7 7 0 0 0 14 0M12 18v3",
  "mic-off": "M4 4l16 16M9 9v3a3 3 0 0 0 5 2.200M15 11V6a3 3 0 0 0-5.700-1.300M5 11a7 7 0 0 0 11.500 5.400M12 18v3",
  camera: "M3 7h12v10H3zM15 11l6-3v8l-6-3z",
  "camera-off": "M4 4l16 16M7 7H3v10h12v-2M11 7h4v4l6-3v8",
  screen: "M3 4h18v12H3zM8 20h8M12 16v4M12 13V8M9.500 10L12 7.500 14.500 10",
  "screen-stop": "M3 4h18v12H3zM8 20h8M12 16v4M9.500 8l5 4M14.500 8l-5 4",
  chat: "M4 5h16v11H9l-5 4z",
  people: "M9 11a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7zM2.500 20c0-4 3-6 6.500-6s6.500 2 6.500 6M16 4.500a3.500 3.500 0 0 1 0 6M18 14.500c2.200.700 3.500 2.500 3.500 5.500",
  grid: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
  spotlight: "M3 4h18v11H3zM4 19h4M10 19h4M16 19h4",
  gear: "M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM12 2v4M12 18v4M2 12h4M18 12h4M5 5l2.800 2.800M16.200 16.200L19 19M19 5l-2.800 2.800M7.800 16.200L5 19",
  link: "M10 14a4 4 0 0 0 6 .500l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6-.500l-3 3a4 4 0 0 0 6 6l1-1",
  leave: "M14 4h5v16h-5M10 8l-4 4 4 4M6 12h9",
  close: "M6 6l12 12M18 6L6 18",
  send: "M4 12l16-8-5 16-3-7z",
} as const;

export function Icon({ name }: { name: keyof typeof paths }) {
  return (
    <svg viewBox="0 0 24 24" width="22" height="22" aria-hidden focusable="false">
      <path
        d={paths[name]}
        fill="none"
        stroke="currentColor"
        strokeWidth="1.8"
        strokeLinecap="round"
        strokeLinejoin="round"
      />
    </svg>
  );
}
