// Switches of memory that have just ended, shown again step by step: they took milliseconds, too few to be seen.

const STEP_MS = 500;
const FRESH_S = 5; // what ended longer ago is history

export const STEPS = ["pre-copy", "commit", "retire"];

/** Adds a handover to `state.switches` until its last step was shown; `draw` is called when there is another to show. */
export function replay(state, move, now_s, draw) {
  if (now_s - move.finished_s > FRESH_S) return;
  const [name, partition] = memoryOf(move);
  const told = { function: name, partition, source: move.source, target: move.target };
  const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const steps = isStill ? [STEPS.length] : [STEPS.indexOf("commit"), STEPS.indexOf("retire")];
  const show = (place) => {
    state.switches = state.switches.filter((other) => other.function !== name || other.partition !== partition);
    if (place < steps.length) {
      state.switches.push({ ...told, reached: steps[place] });
      setTimeout(() => show(place + 1), isStill ? 2 * STEP_MS : STEP_MS);
    }
    draw();
  };
  show(0);
}

/** Function and partition of a handover. */
export function memoryOf(move) {
  const [name, ...partition] = move.what.split(":");
  return [name, partition.join(":")];
}

/** The switch of a memory that is shown now, if there is one. */
export function switchOf(state, memory) {
  return state.switches.find((other) => other.function === memory.function && other.partition === memory.partition);
}
