// People in front of cameras, drawn: what the screenshot of the README shows. Runs in a page.

{
  const WIDTH = 640;
  const HEIGHT = 360;

  /** Each person: what is behind them, what they wear, their skin, hair and what else there is to see. */
  const people = {
    ada: { wall: ["#d9e4e1", "#b9cbc7"], behind: "window", clothes: "#1f5f6b", collar: "round", skin: "#f0c8a8", hair: "#5b3a24", style: "bob", glasses: true },
    minjun: { wall: ["#e9e2d6", "#cfc2ae"], behind: "shelf", clothes: "#2b3550", collar: "shirt", skin: "#eec39a", hair: "#1d1a1a", style: "short" },
    zainab: { wall: ["#dfe5ee", "#b8c4d6"], behind: "lamp", clothes: "#7a3f57", collar: "round", skin: "#c98e63", hair: "#8f5872", style: "scarf" },
    tomas: { wall: ["#e6e9dd", "#c2cab0"], behind: "plant", clothes: "#6d7f4e", collar: "round", skin: "#f3cfb3", hair: "#b9824a", style: "parted", beard: true },
    noor: { wall: ["#efe3dc", "#d7bfb2"], behind: "frames", clothes: "#c7683d", collar: "v", skin: "#a9714a", hair: "#231815", style: "curls" },
    ingrid: { wall: ["#dfe8ec", "#b5c8d1"], behind: "window", clothes: "#8ba7b5", collar: "shirt", skin: "#f7dbc6", hair: "#d9c9a6", style: "bun", glasses: true },
    kwame: { wall: ["#e7ddd3", "#c9b49f"], behind: "shelf", clothes: "#f0e9dc", collar: "shirt", skin: "#6f4630", hair: "#1a1210", style: "cropped", beard: true, headset: true },
    seoyeon: { wall: ["#ece6ef", "#cdbfd6"], behind: "plant", clothes: "#51447d", collar: "v", skin: "#f2cda9", hair: "#2a1d1b", style: "long" },
    george: { wall: ["#e2e2dc", "#bdbdb2"], behind: "frames", clothes: "#3d4a45", collar: "shirt", skin: "#eebfa2", hair: "#dedad3", style: "bald", glasses: true },
  };

  const shade = (color, amount) => {
    const channels = [1, 3, 5].map((start) => Number.parseInt(color.slice(start, start + 2), 16));
    const shaded = channels.map((channel) => Math.round(amount < 0 ? channel * (1 + amount) : channel + (255 - channel) * amount));
    return `rgb(${shaded.join(" ")})`;
  };

  function fill(context, color, draw) {
    context.beginPath();
    draw(context);
    context.fillStyle = color;
    context.fill();
  }

  function stroke(context, color, width, draw) {
    context.beginPath();
    draw(context);
    Object.assign(context, { strokeStyle: color, lineWidth: width, lineCap: "round", lineJoin: "round" });
    context.stroke();
  }

  const ellipse = (x, y, rx, ry) => (c) => c.ellipse(x, y, rx, ry, 0, 0, 7);
  const rectangle = (x, y, width, height, radius = 0) => (c) => c.roundRect(x, y, width, height, radius);

  const scenes = {
    window(c) {
      fill(c, "#f7fbfc", rectangle(405, 18, 190, 200, 4));
      fill(c, "#cfe3ea", rectangle(415, 28, 80, 180));
      fill(c, "#dcebdf", rectangle(505, 28, 80, 180));
      fill(c, "#9cbfa5", (d) => d.ellipse(540, 225, 60, 50, 0, 3.3, 6.1));
      fill(c, "#e9ded0", rectangle(372, 0, 40, 300));
      fill(c, "#e9ded0", rectangle(588, 0, 44, 300));
    },
    shelf(c) {
      const books = ["#7c4b3a", "#35586c", "#c9a24d", "#54704f", "#8a3f4c", "#d8cdb8", "#3b3f5c"];
      fill(c, "#8d6a4b", rectangle(20, 20, 200, 330, 4));
      for (let row = 0; row < 3; row += 1) {
        fill(c, "#5e4430", rectangle(30, 30 + row * 106, 180, 96));
        for (let book = 0; book < 9; book += 1) {
          const height = 58 + ((book * 37 + row * 23) % 30);
          fill(c, books[(book * 3 + row) % books.length], rectangle(34 + book * 19, 126 + row * 106 - height, 16, height));
        }
      }
    },
    lamp(c) {
      const glow = c.createRadialGradient(120, 90, 10, 120, 90, 190);
      glow.addColorStop(0, "rgb(255 240 205 / 0.95)");
      glow.addColorStop(1, "rgb(255 240 205 / 0)");
      c.fillStyle = glow;
      c.fillRect(0, 0, WIDTH, HEIGHT);
      fill(c, "#fff3d6", (d) => { d.moveTo(92, 50); d.lineTo(148, 50); d.lineTo(172, 118); d.lineTo(68, 118); });
      fill(c, "#5c5148", rectangle(117, 118, 6, 242));
      fill(c, "#a88f7c", rectangle(450, 40, 120, 84, 3));
      fill(c, "#dcd3cb", rectangle(458, 48, 104, 68));
      fill(c, "#7d93a5", (d) => { d.moveTo(458, 116); d.lineTo(500, 70); d.lineTo(530, 98); d.lineTo(546, 84); d.lineTo(562, 116); });
    },
    plant(c) {
      fill(c, "#b8694a", (d) => { d.moveTo(470, 290); d.lineTo(562, 290); d.lineTo(550, 360); d.lineTo(482, 360); });
      for (let leaf = 0; leaf < 9; leaf += 1) {
        c.save();
        c.translate(516, 292);
        c.rotate(-1.25 + leaf * 0.31);
        fill(c, leaf % 2 ? "#4d7f57" : "#64996a", ellipse(0, -92, 19, 92));
        c.restore();
      }
    },
    frames(c) {
      const frame = (x, y, width, height, color) => {
        fill(c, "#4c433c", rectangle(x, y, width, height, 2));
        fill(c, "#f5f1ea", rectangle(x + 6, y + 6, width - 12, height - 12));
        fill(c, color, ellipse(x + width / 2, y + height / 2, width / 5, height / 5));
      };
      frame(40, 36, 96, 120, "#cc7a52");
      frame(152, 60, 72, 72, "#55808a");
      frame(470, 40, 120, 92, "#a38a55");
    },
  };

  /** Hair that is behind the head. */
  const backs = {
    bob: (c, hair) => fill(c, shade(hair, -0.25), rectangle(238, 92, 164, 168, 66)),
    long: (c, hair) => fill(c, shade(hair, -0.15), (d) => { d.moveTo(244, 150); d.bezierCurveTo(220, 40, 420, 40, 396, 150); d.bezierCurveTo(402, 230, 420, 290, 412, 345); d.lineTo(228, 345); d.bezierCurveTo(220, 290, 238, 230, 244, 150); }),
    curls: (c, hair) => { for (const [x, y, r] of [[250, 130, 46], [390, 130, 46], [240, 188, 44], [400, 188, 44], [262, 236, 36], [378, 236, 36], [320, 96, 56], [272, 98, 46], [368, 98, 46]]) fill(c, hair, ellipse(x, y, r, r)); },
    bun: (c, hair) => { fill(c, shade(hair, -0.12), ellipse(320, 66, 34, 28)); },
    scarf: (c, hair) => fill(c, hair, (d) => { d.moveTo(236, 170); d.bezierCurveTo(226, 36, 414, 36, 404, 170); d.bezierCurveTo(412, 250, 440, 290, 452, 360); d.lineTo(188, 360); d.bezierCurveTo(200, 290, 228, 250, 236, 170); }),
  };

  /** Hair that is before the forehead. */
  const fronts = {
    bob: (c, hair) => fill(c, hair, (d) => { d.moveTo(246, 212); d.bezierCurveTo(228, 40, 412, 40, 394, 212); d.bezierCurveTo(388, 150, 376, 128, 352, 120); d.bezierCurveTo(320, 140, 282, 136, 266, 134); d.bezierCurveTo(256, 152, 258, 184, 246, 212); }),
    short: (c, hair) => fill(c, hair, (d) => { d.moveTo(252, 160); d.bezierCurveTo(240, 62, 400, 58, 388, 160); d.bezierCurveTo(382, 138, 374, 124, 364, 118); d.bezierCurveTo(336, 128, 296, 112, 276, 122); d.bezierCurveTo(264, 132, 256, 146, 252, 160); }),
    parted: (c, hair) => fill(c, hair, (d) => { d.moveTo(252, 158); d.bezierCurveTo(238, 66, 404, 60, 389, 158); d.bezierCurveTo(384, 132, 374, 122, 362, 114); d.bezierCurveTo(330, 124, 300, 116, 290, 104); d.bezierCurveTo(276, 122, 258, 132, 252, 158); }),
    cropped: (c, hair) => fill(c, hair, (d) => { d.moveTo(257, 148); d.bezierCurveTo(254, 72, 386, 72, 383, 148); d.bezierCurveTo(374, 116, 352, 108, 320, 108); d.bezierCurveTo(288, 108, 266, 116, 257, 148); }),
    long: (c, hair) => fill(c, hair, (d) => { d.moveTo(244, 232); d.bezierCurveTo(222, 36, 418, 36, 396, 232); d.bezierCurveTo(388, 150, 366, 122, 330, 108); d.bezierCurveTo(282, 122, 256, 150, 244, 232); }),
    curls: (c, hair) => { for (const [x, y, r] of [[282, 102, 24], [312, 94, 26], [344, 98, 25], [368, 114, 20], [264, 124, 18]]) fill(c, shade(hair, 0.08), ellipse(x, y, r, r * 0.8)); },
    bun: (c, hair) => fill(c, hair, (d) => { d.moveTo(249, 168); d.bezierCurveTo(236, 50, 404, 50, 391, 168); d.bezierCurveTo(382, 128, 352, 112, 312, 110); d.bezierCurveTo(286, 114, 262, 130, 249, 168); }),
    scarf: (c, hair) => {
      c.beginPath();
      c.moveTo(240, 180);
      c.bezierCurveTo(230, 44, 410, 44, 400, 180);
      c.bezierCurveTo(402, 250, 372, 292, 320, 296);
      c.bezierCurveTo(268, 292, 238, 250, 240, 180);
      c.ellipse(320, 176, 58, 74, 0, 0, 7);
      c.fillStyle = hair;
      c.fill("evenodd");
      stroke(c, shade(hair, -0.2), 3, (d) => { d.moveTo(272, 270); d.bezierCurveTo(306, 306, 356, 300, 396, 240); d.moveTo(262, 90); d.bezierCurveTo(244, 120, 240, 150, 242, 182); });
    },
    bald: (c, hair) => { fill(c, hair, ellipse(255, 158, 9, 26)); fill(c, hair, ellipse(385, 158, 9, 26)); },
  };

  const collars = {
    round: (c, clothes) => stroke(c, shade(clothes, -0.22), 6, (d) => d.ellipse(320, 268, 44, 30, 0, 0.25, 2.9)),
    v: (c, clothes, skin) => { fill(c, skin, (d) => { d.moveTo(284, 268); d.lineTo(356, 268); d.lineTo(320, 322); }); stroke(c, shade(clothes, -0.2), 5, (d) => { d.moveTo(282, 268); d.lineTo(320, 324); d.lineTo(358, 268); }); },
    shirt: (c, clothes) => { fill(c, shade(clothes, 0.18), (d) => { d.moveTo(282, 262); d.lineTo(320, 296); d.lineTo(290, 322); d.lineTo(262, 280); }); fill(c, shade(clothes, 0.18), (d) => { d.moveTo(358, 262); d.lineTo(320, 296); d.lineTo(350, 322); d.lineTo(378, 280); }); stroke(c, shade(clothes, -0.25), 2.5, (d) => { d.moveTo(320, 298); d.lineTo(320, 360); }); },
  };

  function drawBody(c, person) {
    const { clothes, skin } = person;
    fill(c, clothes, (d) => { d.moveTo(150, 362); d.bezierCurveTo(160, 290, 220, 278, 280, 262); d.lineTo(360, 262); d.bezierCurveTo(420, 278, 480, 290, 490, 362); });
    fill(c, shade(skin, -0.14), (d) => { d.moveTo(288, 210); d.lineTo(352, 210); d.lineTo(356, 266); d.bezierCurveTo(340, 288, 300, 288, 284, 266); });
    collars[person.collar](c, clothes, shade(skin, -0.05));
  }

  function drawHead(c, person) {
    const { skin } = person;
    const covered = ["long", "bob", "scarf", "curls"].includes(person.style);
    for (const x of covered ? [] : [252, 388]) fill(c, shade(skin, -0.1), ellipse(x, 176, 12, 19));
    const light = c.createRadialGradient(300, 140, 10, 320, 180, 120);
    light.addColorStop(0, shade(skin, 0.16));
    light.addColorStop(1, shade(skin, -0.08));
    fill(c, light, (d) => { d.moveTo(252, 158); d.bezierCurveTo(248, 74, 392, 74, 388, 158); d.bezierCurveTo(390, 214, 362, 254, 320, 256); d.bezierCurveTo(278, 254, 250, 214, 252, 158); });
    for (const x of [278, 362]) fill(c, "rgb(214 92 80 / 0.13)", ellipse(x, 200, 17, 11));
  }

  function drawBeard(c, person) {
    fill(c, shade(person.hair, 0.04), (d) => { d.moveTo(255, 186); d.bezierCurveTo(258, 236, 286, 262, 320, 262); d.bezierCurveTo(354, 262, 382, 236, 385, 186); d.bezierCurveTo(374, 204, 356, 205, 320, 203); d.bezierCurveTo(284, 205, 266, 204, 255, 186); });
  }

  function drawEyes(c, person, seconds) {
    const blinks = (seconds + person.phase) % 4.3 < 0.13;
    for (const x of [291, 349]) {
      if (blinks) {
        stroke(c, shade(person.skin, -0.45), 3, (d) => d.ellipse(x, 164, 13, 6, 0, 0.2, 2.9));
      } else {
        fill(c, "#fbfaf7", ellipse(x, 165, 12, 7.6));
        fill(c, shade(person.style === "scarf" || person.style === "bald" ? "#4a3728" : person.hair, -0.1), ellipse(x, 165, 6.6, 6.9));
        fill(c, "#16110f", ellipse(x, 165, 3.2, 3.4));
        fill(c, "#ffffff", ellipse(x + 2.4, 162, 1.8, 1.8));
        stroke(c, shade(person.skin, -0.55), 3.2, (d) => d.ellipse(x, 166, 13.5, 9, 0, 3.3, 6.1));
      }
      const brow = person.style === "scarf" ? "#3b2a22" : shade(person.hair, -0.2);
      stroke(c, brow, 4, (d) => d.ellipse(x, 156, 18, 11, 0, 3.8, 5.65));
    }
    stroke(c, shade(person.skin, -0.24), 3, (d) => { d.moveTo(321, 168); d.quadraticCurveTo(330, 192, 323, 197); d.quadraticCurveTo(316, 199, 312, 195); });
  }

  function drawMouth(c, person, seconds) {
    const lips = shade(person.skin, -0.42);
    if (!person.speaks) {
      stroke(c, lips, 3.6, (d) => { d.moveTo(299, 218); d.quadraticCurveTo(320, 233, 341, 218); });
      return;
    }
    const open = 7 + 5 * Math.abs(Math.sin(seconds * 7.3));
    fill(c, "#5d2320", ellipse(320, 221, 18, open));
    fill(c, "#ffffff", rectangle(307, 221 - open * 0.78, 26, 5, 2));
    fill(c, "#c65a57", (d) => d.ellipse(320, 221 + open * 0.55, 11, open * 0.4, 0, 0, 7));
  }

  function drawExtras(c, person) {
    if (person.glasses) {
      for (const x of [291, 349]) stroke(c, "#2b2a2c", 3.4, rectangle(x - 23, 148, 46, 34, 13));
      stroke(c, "#2b2a2c", 3.4, (d) => { d.moveTo(314, 160); d.quadraticCurveTo(320, 156, 326, 160); });
      stroke(c, "#2b2a2c", 3, (d) => { d.moveTo(268, 160); d.lineTo(254, 164); d.moveTo(372, 160); d.lineTo(386, 164); });
    }
    if (person.headset) {
      stroke(c, "#30343a", 8, (d) => d.ellipse(320, 166, 76, 92, 0, 3.3, 6.12));
      for (const x of [247, 393]) fill(c, "#22262b", rectangle(x - 11, 150, 22, 50, 9));
      stroke(c, "#30343a", 4, (d) => { d.moveTo(250, 198); d.quadraticCurveTo(256, 234, 294, 238); });
      fill(c, "#22262b", ellipse(298, 238, 8, 5));
    }
  }

  /** Draws a person at a time in seconds: 640 by 360 pixels. */
  window.drawPortrait = (context, name, speaks, seconds) => {
    const person = { ...people[name], speaks, phase: name.length * 0.7 };
    context.save();
    context.filter = "blur(4px)";
    const wall = context.createLinearGradient(0, 0, WIDTH, HEIGHT);
    wall.addColorStop(0, person.wall[0]);
    wall.addColorStop(1, person.wall[1]);
    context.fillStyle = wall;
    context.fillRect(-10, -10, WIDTH + 20, HEIGHT + 20);
    scenes[person.behind](context);
    context.restore();

    context.save();
    // Nearer to the camera, and never quite still.
    const sway = Math.sin(seconds * 1.1 + person.phase);
    context.translate(320 + 3 * sway, 196 + 1.5 * Math.cos(seconds * 0.9 + person.phase));
    context.rotate(0.012 * sway);
    context.scale(1.16, 1.16);
    context.translate(-320, -186);
    backs[person.style]?.(context, person.hair);
    drawBody(context, person);
    drawHead(context, person);
    if (person.beard) drawBeard(context, person);
    drawEyes(context, person, seconds);
    drawMouth(context, person, seconds);
    fronts[person.style](context, person.hair);
    drawExtras(context, person);
    context.restore();
  };

  let sound;

  /** A camera and a microphone: the drawn person, and a voice where they speak. */
  window.personStream = (name, speaks) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: WIDTH, height: HEIGHT });
    const context = canvas.getContext("2d");
    const draw = () => window.drawPortrait(context, name, speaks, performance.now() / 1_000);
    draw();
    setInterval(draw, 125);
    const stream = canvas.captureStream(8);
    // A page has few of these, so all who are in it share one.
    sound ??= new AudioContext();
    const microphone = sound.createMediaStreamDestination();
    if (speaks) {
      const voice = new OscillatorNode(sound, { type: "sawtooth", frequency: 160 });
      const syllables = new OscillatorNode(sound, { frequency: 4 });
      const loudness = new GainNode(sound, { gain: 0.5 });
      syllables.connect(new GainNode(sound, { gain: 0.3 })).connect(loudness.gain);
      voice.connect(loudness).connect(microphone);
      voice.start();
      syllables.start();
    }
    stream.addTrack(microphone.stream.getAudioTracks()[0]);
    return stream;
  };
}
