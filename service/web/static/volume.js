// The scored series in three planes with its heatmap, by niivue. Without WebGL the page keeps its pictures.

const page = document.querySelector("#study");
const place = page.querySelector("#volume");
const said = page.querySelector("#volume-said");
const control = (name) => place.querySelector(`#${name}`);
const { SLICE_TYPE, SHOW_RENDER } = niivue;
const TRANSPARENT_BELOW = 1; // niivue's ZERO_TO_MAX_TRANSPARENT_BELOW_MIN, which it does not export: a value keeps its colour
const PLANES = [SLICE_TYPE.MULTIPLANAR, SLICE_TYPE.AXIAL, SLICE_TYPE.CORONAL, SLICE_TYPE.SAGITTAL];
const LARGE = 0.68; // of the width, for the plane of the slices
const slices = Number(place.dataset.slices);

function tell(text) {
  said.textContent = text;
  said.hidden = !text;
}

function hasGraphics() {
  const context = document.createElement("canvas").getContext("webgl2");
  context?.getExtension("WEBGL_lose_context")?.loseContext();
  return context !== null;
}

const viewer = new niivue.Niivue({
  backColor: [0, 0, 0, 1],
  crosshairColor: [1, 0.84, 0.37, 0.7],
  crosshairWidth: 0.3,
  crosshairGap: 12, // what lies under the cross is what people look at
  fontColor: [0.87, 0.9, 0.93, 1],
  isRadiologicalConvention: true, // the patient's right is on the left
  multiplanarShowRender: SHOW_RENDER.NEVER,
  sliceType: SLICE_TYPE.MULTIPLANAR,
  show3Dcrosshair: false,
  dragAndDropEnabled: false,
  viewModeHotKey: "",
  clipPlaneHotKey: "",
  loadingText: "",
  logLevel: "error",
});

// Where a point lies along the stack, from 0 at its first slice: the stack need not be axial.
function stack() {
  const affine = viewer.volumes[0].hdr.affine;
  const along = [0, 1, 2].map((axis) => affine[axis][2]);
  const origin = [0, 1, 2].map((axis) => affine[axis][3]);
  const length = along.reduce((sum, part) => sum + part * part, 0);
  const indexOf = (mm) => along.reduce((sum, part, axis) => sum + part * (mm[axis] - origin[axis]), 0) / length;
  return { along, indexOf };
}

// Of the scanner: niivue reckons within the grid of the volume unless it is told.
function position() {
  return [...viewer.frac2mm(viewer.scene.crosshairPos, 0, true)].slice(0, 3);
}

// Move to a slice; `at` is a place in it, patient millimetres, LPS as DICOM has them (niivue has RAS).
function go({ slice, at }) {
  const { along, indexOf } = stack();
  const from = at ? [-at[0], -at[1], at[2]] : position();
  const steps = slice - indexOf(from);
  const to = from.map((part, axis) => part + steps * along[axis]);
  viewer.scene.crosshairPos = viewer.mm2frac(to, 0, true);
  viewer.createOnLocationChange();
  viewer.drawScene();
}

function moved({ values }) {
  const slice = Math.min(Math.max(Math.round(stack().indexOf(position())), 0), slices - 1);
  control("slice").value = String(slice + 1);
  control("slice-said").textContent = `${slice + 1} of ${slices}`;
  const anomaly = values[1] ? `, map ${values[1].value.toFixed(2)}` : "";
  control("reading").textContent = `Image ${Math.round(values[0].value)}${anomaly} at the cross`;
  page.dispatchEvent(new CustomEvent("vigil:at", { detail: { slice } }));
}

function paint() {
  const map = viewer.volumes[1];
  const opacity = Number(control("opacity").value);
  const threshold = Number(control("threshold").value);
  map.colormapType = TRANSPARENT_BELOW;
  map.cal_min = threshold;
  map.cal_max = 1;
  viewer.setOpacity(1, control("overlay").checked ? opacity : 0);
  viewer.updateGLVolume();
  control("opacity").nextElementSibling.textContent = `${Math.round(100 * opacity)} %`;
  control("threshold").nextElementSibling.textContent = threshold.toFixed(2);
}

function turn() {
  viewer.setSliceType(Number(control("planes-shown").value));
}

// Asked for by ourselves: niivue asks twice for what it loads by address, and takes an error for a volume.
async function fetched(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.arrayBuffer();
}

// The plane the slices were taken in stands large, all three beside it.
function arrange() {
  const along = stack().along.map(Math.abs);
  viewer.opts.heroSliceType = [SLICE_TYPE.SAGITTAL, SLICE_TYPE.CORONAL, SLICE_TYPE.AXIAL][along.indexOf(Math.max(...along))];
  viewer.opts.heroImageFraction = LARGE;
}

async function begin() {
  if (!hasGraphics()) {
    tell("This browser offers no WebGL 2, so there is no volume to turn. The pictures below show the same.");
    return;
  }
  tell("The volume is being read …");
  place.hidden = false;
  try {
    await viewer.attachToCanvas(control("planes"));
    const [volume, map] = await Promise.all([fetched(place.dataset.volume), fetched(place.dataset.map)]);
    viewer.addVolume(await niivue.NVImage.loadFromUrl({ url: volume, name: "volume.nii.gz", colormap: "gray" }));
    viewer.addVolume(await niivue.NVImage.loadFromUrl({ url: map, name: "map.nii.gz", colormap: "viridis" }));
  } catch {
    place.hidden = true;
    tell("The volume cannot be had: its images may be gone, or others look at large ones. The pictures show the same.");
    return;
  }
  arrange();
  viewer.onLocationChange = moved;
  for (const name of ["opacity", "threshold", "overlay"]) control(name).addEventListener("input", paint);
  control("slice").addEventListener("input", () => go({ slice: Number(control("slice").value) - 1 }));
  control("planes-shown").addEventListener("change", turn);
  page.addEventListener("vigil:go", (event) => go(event.detail));
  page.addEventListener("vigil:plane", () => {
    const choice = control("planes-shown");
    choice.selectedIndex = (choice.selectedIndex + 1) % PLANES.length;
    turn();
  });
  tell("");
  page.classList.add("live");
  page.dispatchEvent(new CustomEvent("vigil:live"));
  const first = page.querySelector("[data-at]"); // the strongest region
  const at = new URLSearchParams(location.search).has("frame") ? null : first?.dataset.at.split(" ").map(Number);
  go({ slice: at ? Number(first.dataset.slice) : Number(place.dataset.frame), at });
  paint();
}

begin();
