/** Answers of the service: JSON, or an RFC 9457 problem as an exception. */

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? body.title ?? "Something went wrong");
    this.status = status;
    this.code = body.error_code ?? "";
    this.body = body;
    this.fields = new Map((body.errors ?? []).map((each) => [each.field, each.message]));
  }
}

export async function read(answer) {
  if (answer.status === 204) return null;
  const isJson = (answer.headers.get("content-type") ?? "").includes("json");
  const body = isJson ? await answer.json() : {};
  if (!answer.ok) throw new Problem(answer.status, body);
  return body;
}
