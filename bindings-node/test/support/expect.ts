// Expectations of the shared cases: references to kept values, matchers, and the comparison.

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type Kept = Map<string, Json>;

export function isObject(value: Json | undefined): value is { [name: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isMatcher(value: Json): value is { [name: string]: Json } {
  return isObject(value) && Object.keys(value).some((name) => name.startsWith("$"));
}

/** Puts kept values where `value` refers to them. */
export function resolve(value: Json, kept: Kept): Json {
  if (typeof value === "string") {
    if (!value.startsWith("$")) return value;
    return value.startsWith("$$") ? value.slice(1) : lookUp(value.slice(1), kept);
  }
  if (Array.isArray(value)) return value.map((item) => resolve(item, kept));
  if (!isObject(value) || isMatcher(value)) return value;
  return Object.fromEntries((Object.entries(value) as [string, Json][]).map(([name, member]) => [name, resolve(member, kept)]));
}

function lookUp(path: string, kept: Kept): Json {
  const [name, ...members] = path.split(".");
  let found: Json | undefined = kept.get(name!);
  for (const member of members) {
    found = isObject(found) && Object.hasOwn(found, member) ? (found[member] as Json) : undefined;
  }
  if (found === undefined) throw new Error(`nothing was kept as $${path}`);
  return found;
}

/** Replaces the marks of SQL. */
export function fill(sql: string, table: string, kept: Kept, value?: Json): string {
  const filled = sql.replaceAll("{table}", () => table);
  const withValue = value === undefined ? filled : filled.replaceAll("{value}", () => literal(value));
  return withValue.replace(/\{\$([^}]*)\}/g, (_mark, path) => literal(lookUp(String(path), kept)));
}

function literal(value: Json): string {
  if (value === null) return "NULL";
  return `'${(typeof value === "string" ? value : JSON.stringify(value)).replaceAll("'", "''")}'`;
}

/** What differs, and the conditions that the database has to check. */
export interface Comparison {
  differences: string[];
  conditions: { at: string; condition: string; value: Json }[];
}

/** `whole`: objects have no members but the expected ones. */
export function compare(expected: Json, actual: Json, whole: boolean): Comparison {
  const comparison: Comparison = { differences: [], conditions: [] };
  compareAt("", expected, actual, whole, comparison);
  return comparison;
}

function compareAt(at: string, expected: Json, actual: Json, whole: boolean, comparison: Comparison): void {
  const differ = (where: string, wanted: unknown, found: unknown) =>
    comparison.differences.push(
      `  ${where.replace(/^\./, "") || "the result"}: expected ${JSON.stringify(wanted)}, got ${JSON.stringify(found)}`,
    );
  if (isMatcher(expected)) {
    const [entry, ...more] = Object.entries(expected);
    const [name, argument] = entry!;
    if (more.length === 0 && name === "$any" && argument === true) {
      if (actual === null) differ(at, "anything", actual);
    } else if (more.length === 0 && name === "$sql" && typeof argument === "string") {
      comparison.conditions.push({ at, condition: argument, value: actual });
    } else {
      comparison.differences.push(`  ${at}: unknown matcher ${JSON.stringify(expected)}`);
    }
  } else if (isObject(expected) && isObject(actual)) {
    for (const [name, member] of Object.entries(expected)) {
      if (Object.hasOwn(actual, name)) compareAt(`${at}.${name}`, member, actual[name]!, whole, comparison);
      else differ(`${at}.${name}`, member, undefined);
    }
    for (const name of Object.keys(actual)) {
      if (whole && !Object.hasOwn(expected, name)) differ(`${at}.${name}`, undefined, actual[name]);
    }
  } else if (Array.isArray(expected) && Array.isArray(actual) && expected.length === actual.length) {
    expected.forEach((item, n) => compareAt(`${at}[${n}]`, item, actual[n]!, whole, comparison));
  } else if (expected !== actual) {
    differ(at, expected, actual);
  }
}
