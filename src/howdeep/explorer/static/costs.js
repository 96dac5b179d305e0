/** The colours of what a deletion costs: those of the report, the same for every network. */

const STOPS = [-5, 0, 1, 5, 20, 90]; // points of error at which --cost-0 to --cost-5 stand
export const MARKS = [-5, -1, 0, 1, 5, 20, 90];

/** Linear up to a point, logarithmic beyond. */
const bent = (points) => Math.sign(points) * Math.log1p(Math.abs(points));

/** The colour of a cost, between those of the two stops beside it. */
export function colour(points) {
  const beyond = STOPS.findIndex((stop) => points <= stop);
  const next = beyond < 0 ? STOPS.length - 1 : Math.max(1, beyond);
  const [low, high] = [bent(STOPS[next - 1]), bent(STOPS[next])];
  const share = Math.max(0, Math.min(100, (100 * (bent(points) - low)) / (high - low)));
  return `color-mix(in srgb, var(--cost-${next}) ${share.toFixed(1)}%, var(--cost-${next - 1}))`;
}

/** Where a cost stands on the legend, in percent of its width. */
export const place = (points) => (100 * (bent(points) - bent(STOPS[0]))) / (bent(STOPS.at(-1)) - bent(STOPS[0]));

/** All colours from left to right, for CSS. */
export const ramp = STOPS.map((stop, number) => `var(--cost-${number}) ${place(stop).toFixed(1)}%`).join(", ");
