// Small pictures of a dataset's images, by the ids that the server made.

import { part, path, send } from "./api.js";
import { h } from "./dom.js";
import { storedKey } from "./key.js";

/** The address of an image's picture, at most `size` pixels on its longer side. */
export const pictureAddress = (dataset, id, size = 320) => path(`/v1/images/${part(id)}`, { dataset, size });

const coming = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    coming.unobserve(target);
    fetchPicture(target);
  }
}, { rootMargin: "200px" });

/** The picture. One that cannot be shown says why. */
export function picture(dataset, id, alt, size = 320) {
  const address = pictureAddress(dataset, id, size);
  const image = h("img", { alt, width: size, height: size, decoding: "async" });
  if (storedKey()) {
    image.dataset.address = address; // an element cannot send the key: the picture is fetched with it
    coming.observe(image);
  } else {
    image.loading = "lazy";
    image.addEventListener("error", () => image.replaceWith(lost(alt)), { once: true });
    image.src = address;
  }
  return image;
}

async function fetchPicture(image) {
  try {
    const { data } = await send("GET", image.dataset.address, { as: "blob" });
    image.src = URL.createObjectURL(data);
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  } catch (error) {
    image.replaceWith(lost(`${image.alt}: ${error.message}`));
  }
}

const lost = (text) => h("span", { class: "pending muted small-text" }, `no picture of ${text}`);
