# One target per table of the paper; docs/reproducing.md says what each needs. Finished rows are kept, so a target that
# was interrupted goes on where it stopped. Included by the Makefile.
#   make table-spair SET="store.precision=int8 backbone.backbones.sd15.dtype=bfloat16"
#   make table-synthetic JOBS=2
SEEDS ?= 42 43 44
JOBS ?= 1
SET ?=
AP10K_WEIGHTS ?= results/ap10k/supervised-ap10k
SPAIR_WEIGHTS ?= results/spair71k/supervised-spair71k
TABLES := results/tables
ROWS = $(BIN)/python -m benchmarks.run_rows
report = $(BIN)/geoalign report $(1) --full --out $(TABLES) --format markdown csv latex
NEAREST := zero_shot/dinov2 zero_shot/sd15 zero_shot/sd15_dinov2 zero_shot/dift
WINDOW := zero_shot/dinov2_window zero_shot/sd15_window zero_shot/sd15_dinov2_window
FROZEN := $(NEAREST) $(WINDOW)
LESS := $(addprefix ablation/,no_dense no_augmentation no_noise no_dropout as_written rotated continuous clean)
READ := $(addprefix ablation/,window_0 window_3 window_5 window_7 window_9 window_11 readout_soft readout_window \
	readout_argmax readout_kernel)
SYNTHETIC := $(addprefix synthetic/,sparse dense augmentation noise dropout window continuous cell)
LIVESTOCK_FROZEN := $(addprefix livestock/,zero_shot zero_shot_best zero_shot_ways zero_shot_best_ways \
	$(addprefix zero_shot_,leave_horse leave_sheep leave_cattleA leave_cattleB across))
LIVESTOCK := $(addprefix livestock/,refined no_frozen mixed no_augmentation no_dense no_sparse no_window no_dropout \
	rendered few_4 few_8 few_16 few_32 leave_horse leave_sheep leave_cattleA leave_cattleB across)
LEFT_OUT := leave_horse leave_sheep leave_cattleA leave_cattleB
DEEP := $(addprefix livestock_deep/,aggregation tail px384 cells60 lora upsample $(LEFT_OUT))
PARTS := $(addprefix livestock_deep/,tail lora deeper no_frozen mirror transport distil gaussian narrowing upsample \
	field cosine dot)
STRONG := $(addsuffix /spair71k,visual_ai simplematch marco geco imcorr) visual_ai/spair71k_dinov3 \
	visual_ai/pf_pascal visual_ai/pf_pascal_dinov3 $(addsuffix /ap10k,visual_ai simplematch marco geco imcorr)
set = $(if $(strip $(1) $(SET)),--set $(1) $(SET))

.PHONY: box table-synthetic table-livestock table-livestock-deep table-livestock-unlabelled table-strong table-spair table-ap10k table-pf-pascal table-spair-u table-ablation table-window table-poses
UNLABELLED := $(addprefix livestock_unlabelled/,pseudo alike no_opposite no_way_back no_agreement no_flips no_mirror teacher oracle few_4 few_8)
LABELS := data/pseudo
LIVESTOCK_DATA ?= data/livestock
label = $(BIN)/geoalign label backbone.cut=-4 out=$(LABELS)/livestock-$(1).parquet overwrite=true data.root=$(LIVESTOCK_DATA) $(2)

# The paper's techniques one by one on generated data; on a CPU.
table-synthetic: $(VENV)/installed
	$(BIN)/geoalign extract
	$(ROWS) results/synthetic synthetic/zero_shot $(call set)
	$(ROWS) results/synthetic $(SYNTHETIC) --seeds $(SEEDS) --jobs $(JOBS) $(call set,callbacks.progress=null)
	$(BIN)/python -m geoalign.report.ablation results/synthetic --out docs/results-synthetic.md

# Real photographs: make table-livestock SET=data.root=<folder> where they lie elsewhere than in data/livestock.
table-livestock: $(VENV)/installed
	$(ROWS) results/livestock $(LIVESTOCK_FROZEN) $(call set)
	$(ROWS) results/livestock $(LIVESTOCK) --seeds $(SEEDS) --jobs $(JOBS) $(call set,callbacks.progress=null)
	$(ROWS) results/livestock livestock/refined_ways --weights livestock/refined --seeds $(SEEDS) $(call set)
	$(ROWS) results/livestock livestock/rendered_read --weights livestock/rendered --seeds $(SEEDS) $(call set)
	$(BIN)/python -m geoalign.report.livestock results/livestock --out docs/results-livestock.md

# Real photographs, the last blocks trained too; on a CPU about six minutes a row and seed. Each part alone: half of that.
table-livestock-deep: $(VENV)/installed
	$(ROWS) results/livestock_deep $(addprefix livestock_deep/,zero_shot $(addprefix zero_shot_,$(LEFT_OUT))) $(call set)
	$(ROWS) results/livestock_deep livestock/refined $(DEEP) --seeds $(SEEDS) --jobs $(JOBS) $(call set,callbacks.progress=null)
	$(ROWS) results/livestock_deep/short $(PARTS) --seeds $(SEEDS) --jobs $(JOBS) \
		$(call set,callbacks.progress=null backbone.image_size=384 data.sampler.batches=120)
	$(ROWS) results/livestock_deep livestock_deep/tail_ways --weights livestock_deep/tail --seeds $(SEEDS) $(call set)
	$(BIN)/python -m geoalign.report.livestock_deep results/livestock_deep --out docs/results-livestock-deep.md

# The refiner that comes with geoalign, from the photographs: make box SET=data.root=<folder> LIVESTOCK_DATA=<folder>.
# The same bits on the same machine and torch; runs/box/lite is what geoalign/boxed/lite holds.
BOX := runs/box
box_test = $(BIN)/geoalign evaluate experiment=livestock_deep/tail_ways look=once checkpoint=$(BOX)/lite \
	callbacks=evidence hydra.run.dir=$(BOX)/box-$(1) $(SET) $(2)
box: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/geoalign train experiment=livestock_deep/tail seed=42 hydra.run.dir=$(BOX)/train $(SET)
	OMP_NUM_THREADS=1 $(BIN)/python -m geoalign.apps.make_box $(BOX)/train --photographs $(LIVESTOCK_DATA) --out $(BOX)/lite
	$(call box_test,val,data.test.livestock.split=val)
	$(call box_test,test,alignment=off)
	$(BIN)/geoalign analyse confidence $(BOX)/box-val $(BOX)/box-test --out $(BOX)/confidence
	cp $(BOX)/confidence/confidence.yaml $(BOX)/lite/
	$(ROWS) $(BOX) $(addprefix livestock_deep/,zero_shot $(addprefix zero_shot_,$(LEFT_OUT))) $(call set)
	$(ROWS) $(BOX) $(addprefix livestock_deep/,$(LEFT_OUT)) --seeds 42 $(call set)
	$(BIN)/python -m geoalign.apps.make_box $(BOX) --out $(BOX)/lite --card benchmarks/box_lite.md

# The same photographs without their keypoints: make table-livestock-unlabelled LIVESTOCK_DATA=<folder> SET=data.root=<folder>
table-livestock-unlabelled: $(VENV)/installed
	$(call label,pseudo)
	$(call label,alike,labeller.order=likeness labeller.size=4)
	$(call label,no_way_back,labeller.filters.way_back=null)
	$(call label,no_agreement,labeller.filters.agreement=null)
	$(call label,no_flips,labeller.filters.flips=null)
	$(call label,no_opposite,labeller.opposite=0)
	$(call label,no_mirror,labeller.mirror=false)
	$(BIN)/python -m benchmarks.oracle_labels $(LABELS)/livestock-pseudo.parquet $(LIVESTOCK_DATA) $(LABELS)/livestock-oracle.parquet
	$(ROWS) results/unlabelled livestock/zero_shot livestock/zero_shot_ways $(call set)
	$(ROWS) results/unlabelled $(UNLABELLED) --seeds $(SEEDS) --jobs $(JOBS) $(call set,callbacks.progress=null)
	$(ROWS) results/unlabelled livestock_unlabelled/ways --weights livestock_unlabelled/pseudo --seeds $(SEEDS) $(call set)
	$(call label,again,checkpoint=results/unlabelled/livestock_unlabelled-pseudo/seed-$(firstword $(SEEDS)))
	$(ROWS) results/unlabelled livestock_unlabelled/again --seeds $(SEEDS) --jobs $(JOBS) $(call set,callbacks.progress=null)
	$(ROWS) results/unlabelled livestock_unlabelled/then_4 livestock_unlabelled/then_8 --seeds $(SEEDS) $(call set,callbacks.progress=null initial=results/unlabelled/livestock_unlabelled-pseudo/seed-$(firstword $(SEEDS)))
	$(BIN)/python -m geoalign.report.unlabelled results/unlabelled --labels $(LABELS) --data $(LIVESTOCK_DATA) --out docs/results-livestock-unlabelled.md

# The recipes that train deeper, on SPair-71k, PF-PASCAL and AP-10K.
table-strong: $(VENV)/installed
	$(ROWS) results/strong $(STRONG) --jobs $(JOBS) $(call set)
	$(call report,results/strong --name strong --published all)

# SPair-71k, zero-shot and supervised; the pre-trained row wants the weights that table-ap10k trains.
table-spair: $(VENV)/installed
	$(ROWS) results/spair71k $(FROZEN) supervised/spair71k --jobs $(JOBS) $(call set)
	$(ROWS) results/spair71k supervised/spair71k_pretrained $(call set,initial=$(AP10K_WEIGHTS))
	$(call report,results/spair71k --name spair71k --published all --categories 0.1)

# AP-10K within species, across species and across families, zero-shot and supervised.
table-ap10k: $(VENV)/installed
	$(ROWS) results/ap10k $(FROZEN) --jobs $(JOBS) $(call set,data=ap10k)
	$(ROWS) results/ap10k supervised/ap10k $(call set)
	$(call report,results/ap10k --name ap10k --published all)

# PF-PASCAL: no mirror table is published, so nothing is flipped.
table-pf-pascal: $(VENV)/installed
	$(ROWS) results/pf_pascal $(FROZEN) --jobs $(JOBS) $(call set,data=pf_pascal alignment=off)
	$(ROWS) results/pf_pascal supervised/pf_pascal $(call set)
	$(ROWS) results/pf_pascal supervised/pf_pascal_pretrained $(call set,initial=$(AP10K_WEIGHTS))
	$(call report,results/pf_pascal --name pf_pascal --published all)

# SPair-U's keypoints under the SPair-71k refiner.
table-spair-u: $(VENV)/installed
	$(ROWS) results/spair_u released/spair_u $(call set,checkpoint=$(SPAIR_WEIGHTS))
	$(call report,results/spair_u --name spair_u --published all)

# What each part of the training adds on SPair-71k; the whole recipe is a row of table-spair.
table-ablation: $(VENV)/installed
	$(ROWS) results/ablation $(LESS) --jobs $(JOBS) $(call set)
	$(call report,$(wildcard $(SPAIR_WEIGHTS)) results/ablation --name ablation)

# How the SPair-71k refiner's similarity maps are read: window sizes, and window against soft, argmax and kernel.
table-window: $(VENV)/installed
	$(ROWS) results/window $(READ) --jobs $(JOBS) $(call set,checkpoint=$(SPAIR_WEIGHTS))
	$(call report,results/window --name window)

# Pose prediction from a folder of labelled images: make table-poses TEMPLATES=<folder>
table-poses: $(VENV)/installed
	$(BIN)/geoalign analyse pose-prediction $(or $(TEMPLATES),$(error TEMPLATES=<folder> is needed)) \
		--backbone $(or $(BACKBONE),lite) --out $(TABLES)
