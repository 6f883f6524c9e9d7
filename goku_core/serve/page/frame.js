// Reads a dropped or chosen picture in the browser; it travels as text with the form, so that the server keeps no upload
// of anybody who only looked.
const complain = (said) => {
  const line = element.querySelector('[role=alert]');
  line.textContent = said;
  line.hidden = !said;
};
const take = (file) => {
  if (!file) return;
  if (!['image/png', 'image/jpeg', 'image/webp'].includes(file.type)) {
    complain('A first frame is a picture: PNG, JPEG or WebP.');
    return;
  }
  if (file.size > props.most) {
    complain(`The picture has ${(file.size / 1e6).toFixed(1)} MB; at most ${(props.most / 1e6).toFixed(1)} MB are taken.`);
    return;
  }
  complain('');
  const reader = new FileReader();
  reader.onload = () => { props.value = reader.result; trigger('upload'); };
  reader.readAsDataURL(file);
};
const zone = (event) => event.target.closest('.drop');
element.addEventListener('change', (event) => {
  if (event.target.type !== 'file') return;
  event.stopPropagation();
  take(event.target.files[0]);
  event.target.value = '';
});
element.addEventListener('dragover', (event) => { event.preventDefault(); zone(event)?.classList.add('over'); });
element.addEventListener('dragleave', (event) => { zone(event)?.classList.remove('over'); });
element.addEventListener('drop', (event) => {
  event.preventDefault();
  zone(event)?.classList.remove('over');
  take(event.dataTransfer.files[0]);
});
element.addEventListener('click', (event) => {
  if (event.target.closest('.clear')) { props.value = ''; trigger('clear'); }
});
