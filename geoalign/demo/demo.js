// Where a drag on a picture began, in px of the picture, and the box that it draws meanwhile; Ctrl+Z undoes.
() => {
  const starts = (window.geoalignStarts = {});
  let drag = null;

  const picture = (event) => event.target.closest?.("#source .picture img, #target .picture img");

  const place = (image, event) => {
    const box = image.getBoundingClientRect();
    const scale = Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight);
    const left = box.left + (box.width - image.naturalWidth * scale) / 2;
    const top = box.top + (box.height - image.naturalHeight * scale) / 2;
    return [(event.clientX - left) / scale, (event.clientY - top) / scale];
  };

  const end = () => {
    drag?.box.remove();
    drag = null;
  };

  document.addEventListener("dragstart", (event) => picture(event) && event.preventDefault(), true);
  document.addEventListener("pointerdown", (event) => {
    const image = event.button === 0 && picture(event);
    if (!image) return;
    end();
    starts[image.closest("#source") ? "source" : "target"] = place(image, event);
    const box = document.body.appendChild(document.createElement("div"));
    box.className = "drawn-box";
    drag = { box, x: event.clientX, y: event.clientY };
  }, true);
  document.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const [left, top] = [Math.min(drag.x, event.clientX), Math.min(drag.y, event.clientY)];
    const [width, height] = [Math.abs(event.clientX - drag.x), Math.abs(event.clientY - drag.y)];
    const style = { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` };
    Object.assign(drag.box.style, style, { display: width + height > 6 ? "block" : "none" });
  }, true);
  for (const name of ["pointerup", "pointercancel"]) document.addEventListener(name, end, true);
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "z" && !event.target.closest("input, textarea")) {
      event.preventDefault();
      document.querySelector("#undo")?.click();
    }
  });
}
