// Shows the OpenAPI document of this router. Text becomes text nodes: nothing of the document is parsed as HTML.

const METHODS = ["get", "post", "put", "patch", "delete"];

function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Text with `code` in it. */
function prose(text) {
  return (text ?? "").split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

const nameOf = (reference) => reference.split("/").at(-1);

/** What a value is, in a few words, with links to types. */
function typeOf(schema) {
  if (!schema) return ["anything"];
  if (schema.$ref) return [h("a", { href: `#type-${nameOf(schema.$ref)}` }, nameOf(schema.$ref))];
  const choices = schema.oneOf ?? schema.anyOf ?? schema.allOf;
  if (choices) {
    const named = (choice) => (choice.title ? [choice.title] : typeOf(choice));
    const shown = choices.filter((choice) => choice.type !== "null").map(named);
    return shown.flatMap((choice, index) => (index ? [" or ", ...choice] : choice));
  }
  const types = [schema.type].flat().filter((type) => type && type !== "null");
  if (types[0] === "array") return ["list of ", ...typeOf(schema.items)];
  return [types.join(" or ") || "anything"];
}

function limitsOf(schema) {
  const { minLength, maxLength, minimum, maximum, minItems, maxItems } = schema ?? {};
  const range = (least, most, unit) => {
    if (most === undefined) return least ? `at least ${least}${unit}` : null;
    return least === undefined ? `at most ${most}${unit}` : `${least} to ${most}${unit}`;
  };
  const parts = [
    range(minLength, maxLength, " bytes"),
    maximum >= Number.MAX_SAFE_INTEGER ? null : range(minimum, maximum, ""),
    range(minItems, maxItems, " items"),
    schema?.default === undefined ? null : `${schema.default} if left out`,
    schema?.enum ? schema.enum.filter((value) => value !== null).join(", ") : null,
  ];
  return parts.filter(Boolean).join("; ");
}

function fields(rows) {
  const row = ({ name, required, schema, description }) =>
    h(
      "tr",
      {},
      h("td", {}, h("code", {}, name), required ? null : h("span", { class: "quiet", title: "optional" }, "?")),
      h("td", {}, ...typeOf(schema)),
      h("td", {}, ...prose(description ?? schema?.description ?? ""), " ", h("span", { class: "quiet" }, limitsOf(schema))),
    );
  const head = h("tr", {}, h("th", {}, "name"), h("th", {}, "type"), h("th", {}, ""));
  return h("div", { class: "wide" }, h("table", {}, h("thead", {}, head), h("tbody", {}, rows.map(row))));
}

function properties(schema) {
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties ?? {}).map(([name, value]) => ({
    name,
    required: required.has(name),
    schema: value,
  }));
}

/** The fields of an object, or of each form that it may have. */
function shape(schema) {
  if (schema.properties) return fields(properties(schema));
  const forms = schema.oneOf?.filter((form) => form.properties) ?? [];
  if (!forms.length) return h("p", {}, ...typeOf(schema));
  // What a form does not have may only be null in it: not worth a line.
  const shown = (form) => properties(form).filter(({ schema: inner }) => inner.type !== "null");
  return h("div", {}, forms.map((form) => [h("h5", {}, form.title), fields(shown(form))]));
}

/** A value that fits: what an example is made of. */
function sample(schema, types, depth = 0) {
  if (!schema || depth > 4) return null;
  if (schema.$ref) return sample(types[nameOf(schema.$ref)], types, depth + 1);
  if (schema.examples?.length) return schema.examples[0];
  if (schema.enum) return schema.enum[0];
  const choice = (schema.oneOf ?? schema.anyOf ?? schema.allOf)?.find((it) => it.type !== "null");
  if (choice) return sample(choice, types, depth + 1);
  switch ([schema.type].flat()[0]) {
    case "object": {
      const wanted = properties(schema).filter(({ name, required }) => required);
      return Object.fromEntries(wanted.map(({ name, schema: inner }) => [name, sample(inner, types, depth + 1)]));
    }
    case "array":
      return [sample(schema.items, types, depth + 1)];
    case "integer":
      return schema.minimum ?? 1;
    case "boolean":
      return true;
    default:
      return "…";
  }
}

function curl(method, path, operation, types) {
  const required = (operation.parameters ?? []).filter((it) => it.required);
  const value = (it) => [sample(it.schema, types)].flat().join(",");
  let url = location.origin + path;
  for (const it of required.filter((it) => it.in === "path")) url = url.replace(`{${it.name}}`, value(it));
  const query = required.filter((it) => it.in === "query").map((it) => `${it.name}=${value(it)}`);
  if (query.length) url += `?${query.join("&")}`;
  const lines = [`curl ${method === "get" ? "" : `-X ${method.toUpperCase()} `}'${url}'`];
  lines.push(`-H "Authorization: Bearer $${path.startsWith("/v1/app/") ? "API_KEY" : "TOKEN"}"`);
  const body = operation.requestBody?.content?.["application/json"]?.schema;
  if (body) lines.push(`-H 'Content-Type: application/json'`, `-d '${JSON.stringify(sample(body, types))}'`);
  return h("pre", {}, h("code", {}, lines.join(" \\\n     ")));
}

function answers(operation) {
  const entries = Object.entries(operation.responses);
  const [good, bad] = [entries.filter(([status]) => status < "300"), entries.filter(([status]) => status >= "300")];
  const line = ([status, response]) => {
    const schema = response.content?.["application/json"]?.schema;
    return h("p", {}, h("strong", {}, status), " ", ...prose(response.description), ...(schema ? [": ", ...typeOf(schema)] : []));
  };
  const list = bad.flatMap(([status], index) => (index ? [", ", status] : [status]));
  return [...good.map(line), h("p", { class: "quiet" }, "Problems: ", ...list, ". ", h("a", { href: "#errors" }, "Errors"))];
}

function show(method, path, operation, types) {
  const body = operation.requestBody?.content?.["application/json"]?.schema;
  const parameters = (operation.parameters ?? []).map((it) => ({ ...it, name: it.name, schema: it.schema }));
  return h(
    "article",
    { id: operation.operationId, "data-words": `${path} ${operation.summary} ${operation.description ?? ""}`.toLowerCase() },
    h("h3", {}, operation.summary),
    h("p", { class: "route" }, h("span", { class: `method ${method}` }, method.toUpperCase()), h("code", {}, path)),
    operation.description ? h("p", {}, ...prose(operation.description)) : null,
    parameters.length ? [h("h4", {}, "Parameters"), fields(parameters)] : null,
    body ? [h("h4", {}, "Body: ", ...typeOf(body)), shape(types[nameOf(body.$ref)])] : null,
    h("h4", {}, "Answer"),
    answers(operation),
    curl(method, path, operation, types),
  );
}

function render(api) {
  const types = api.components.schemas;
  document.getElementById("about").append(...prose(api.info.description));
  const [menu, operations] = [document.getElementById("menu"), document.getElementById("operations")];
  for (const tag of api.tags) {
    const section = h("section", {}, h("h2", {}, tag.name), h("p", { class: "quiet" }, tag.description));
    const links = h("details", { open: "" }, h("summary", {}, tag.name));
    for (const [path, item] of Object.entries(api.paths)) {
      for (const method of METHODS.filter((method) => item[method]?.tags?.includes(tag.name))) {
        const operation = item[method];
        section.append(show(method, path, operation, types));
        const label = h("span", { class: `method ${method}` }, method.toUpperCase());
        links.append(h("a", { href: `#${operation.operationId}` }, label, operation.summary));
      }
    }
    operations.append(section);
    menu.append(links);
  }
  const shown = Object.entries(types).sort(([a], [b]) => a.localeCompare(b));
  for (const [name, schema] of shown) {
    const about = h("p", {}, ...prose(schema.description), " ", h("span", { class: "quiet" }, limitsOf(schema)));
    document.getElementById("types").append(h("article", { id: `type-${name}` }, h("h3", {}, name), about, shape(schema)));
  }
  operations.removeAttribute("aria-busy");
  // The place in the address did not exist when the page was loaded.
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

document.getElementById("find").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const article of document.querySelectorAll("#operations article")) {
    const hidden = !words.every((word) => article.dataset.words.includes(word));
    article.hidden = hidden;
    document.querySelector(`#menu a[href="#${article.id}"]`).hidden = hidden;
  }
  for (const section of document.querySelectorAll("#operations section, #menu details")) {
    section.hidden = !section.querySelector("article:not([hidden]), a:not([hidden])");
  }
});

const answer = await fetch("/v1/openapi.json");
render(await answer.json());
