/** The files of an item: looked at, uploaded, downloaded, deleted. */

import { act, ask, panel } from "./dialogs.js";
import { button, bytes, h, time } from "./dom.js";
import { attempt } from "./forms.js";
import * as http from "./http.js";
import { facts, row, whole } from "./lists.js";
import { listen } from "./stream.js";

/** Open the panel of an item's files. */
export function openFiles(item, mayChange) {
  const pictures = new Set(); // addresses of blobs, to be given back
  const list = whole({
    label: "Files",
    load: async () => (await http.get(`/items/${item.id}/files`)).items,
    toRow: (file) => fileRow(file, mayChange, pictures, () => list.reload()),
    empty: "No files yet.",
  });
  const dialog = panel(`Files of ${item.name}`, list.element, mayChange && uploader(item, list.reload));
  const stop = listen((event) => {
    const isHere = event.type.startsWith("file.") && event.subject === `item:${item.id}`;
    if (isHere || event.type === "job.finished") list.reload(); // a job makes the thumbnails
  });
  dialog.addEventListener("close", () => {
    stop();
    for (const url of pictures) URL.revokeObjectURL(url);
  });
  list.reload();
}

function fileRow(file, mayChange, pictures, reload) {
  const remove = () =>
    ask({
      title: `Delete ${file.name}?`,
      text: "There is no way back.",
      submit: "Delete",
      isDangerous: true,
      action: () => http.remove(`/files/${file.id}`),
      done: reload,
    });
  const element = row({
    id: file.id,
    title: file.name,
    lines: [facts(bytes(file.size), file.contentType, time(file.createdAt))],
    actions: [
      button("Download", () => act(() => http.save(`/files/${file.id}`, file.name)), { "aria-label": `Download ${file.name}` }),
      mayChange && button("Delete", remove, { class: "danger", "aria-label": `Delete ${file.name}` }),
    ],
  });
  element.classList.add("file");
  const picture = h("img", { class: "thumbnail", alt: "", width: 56, height: 56, hidden: true });
  element.prepend(h("div", { class: "thumbnail" }, picture));
  if (file.thumbnailUrl) act(() => draw(picture, file, pictures));
  return element;
}

/** Thumbnails of private items need the token, which an `<img>` does not send. */
async function draw(picture, file, pictures) {
  const url = URL.createObjectURL(await http.blob(`/files/${file.id}/thumbnail`));
  pictures.add(url);
  picture.src = url;
  picture.hidden = false;
}

function uploader(item, reload) {
  const input = h("input", { type: "file", multiple: true, id: "file-input", class: "visually-hidden" });
  const bar = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "Upload" });
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const label = h("label", { class: "drop", for: "file-input" }, h("span", { class: "like-button" }, "Add files"), h("span", { class: "hint" }, "or drop them here"));
  const area = h("form", { class: "uploader" }, problem, input, label, bar);

  async function send(files) {
    if (!files.length) return;
    const form = new FormData();
    for (const file of files) form.append("files", file);
    problem.hidden = true;
    bar.hidden = false;
    await attempt(area, async () => {
      await http.upload(`/items/${item.id}/files`, form, (share) => {
        bar.value = share;
      });
      await reload();
    });
    bar.hidden = true;
    input.value = "";
  }

  input.addEventListener("change", () => send([...input.files]));
  area.addEventListener("dragover", (event) => {
    event.preventDefault();
    label.classList.add("over");
  });
  area.addEventListener("dragleave", () => label.classList.remove("over"));
  area.addEventListener("drop", (event) => {
    event.preventDefault();
    label.classList.remove("over");
    send([...event.dataTransfer.files]);
  });
  return area;
}
