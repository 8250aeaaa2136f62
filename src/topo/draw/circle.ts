/**
 * Points on a circle from additions and multiplications alone. Math.sin differs in its last digit between JavaScript
 * engines, and a picture must be the same bytes on all of them.
 */

export interface Point {
  x: number;
  y: number;
}

/** Sine and cosine of a small angle (|angle| <= pi/4) by their Taylor series, exact to the last digits. */
function small(angle: number): Point {
  const square = angle * angle;
  let sine = 0;
  let cosine = 0;
  for (let k = 10; k >= 0; k--) {
    sine = 1 - (square / ((2 * k + 2) * (2 * k + 3))) * sine;
    cosine = 1 - (square / ((2 * k + 1) * (2 * k + 2))) * cosine;
  }
  return { x: cosine, y: angle * sine };
}

/** The point at `turn` (1 is a full turn), clockwise from the top of the unit circle; y grows downwards. */
export function onCircle(turn: number): Point {
  const whole = turn - Math.floor(turn);
  const quarter = Math.round(whole * 4);
  const { x: cosine, y: sine } = small((whole - quarter / 4) * 2 * Math.PI);
  switch (quarter % 4) {
    case 0:
      return { x: sine, y: -cosine };
    case 1:
      return { x: cosine, y: sine };
    case 2:
      return { x: -sine, y: cosine };
    default:
      return { x: -cosine, y: -sine };
  }
}
