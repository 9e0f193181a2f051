import { nearestName } from "../native/native.js";
import { shown } from "./input.js";

// An option that is misspelt or of another kind must not be left out in silence: it may be the one that limits.

/** What options there are. Naming one too few, or one too many, does not compile. */
export type Names<Options> = Record<keyof Required<Options>, true>;

/** Refuses options of another name. */
export function onlyKnown(of: string, options: unknown, names: Record<string, true>): void {
  if (typeof options !== "object" || options === null) throw new TypeError(`${of}: options must be an object`);
  for (const name in options) {
    if (Object.hasOwn(names, name) || (options as Record<string, unknown>)[name] === undefined) continue;
    const nearest = nearestName(name, Object.keys(names));
    const hint = nearest === null ? `known are ${Object.keys(names).join(", ")}` : `did you mean ${nearest}?`;
    throw new TypeError(`${of} has no option ${shown(name)}; ${hint}`);
  }
}

/** A switch. */
export function flag(name: string, value: unknown, otherwise = false): boolean {
  return optionalFlag(name, value) ?? otherwise;
}

export function optionalFlag(name: string, value: unknown): boolean | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "boolean") return value;
  throw wrong(name, value);
}

export function optionalFunction<F>(name: string, value: F | undefined): F | undefined {
  if (value === undefined || typeof value === "function") return value;
  throw wrong(name, value);
}

export function optionalText(name: string, value: unknown): string | undefined {
  if (value === undefined || typeof value === "string") return value;
  throw wrong(name, value);
}

export function optionalCount(name: string, value: unknown, least: number): number | undefined {
  if (value === undefined) return undefined;
  // setTimeout takes no more than 31 bits.
  if (typeof value === "number" && Number.isInteger(value) && value >= least && value < 2 ** 31) return value;
  throw wrong(name, value);
}

export function optionalNumbers(name: string, value: unknown): number[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value) && value.every((item) => typeof item === "number")) return value;
  throw wrong(name, value);
}

export function wrong(name: string, value: unknown): TypeError {
  return new TypeError(`invalid option ${name}: ${shown(value)}`);
}
