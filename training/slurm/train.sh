#!/bin/bash
# Train under SLURM, and queue again until the recipe is done:
#   sbatch training/slurm/train.sh --recipe openkbp_gpu --training CACHE --validation CACHE --output RUN
#SBATCH --job-name=dose-training
#SBATCH --nodes=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

# Training stops with a checkpoint ten minutes before the job's time is up; the next turn goes on
# from there. Set MINUTES where --time is another one.
MINUTES=${MINUTES:-230}

torchrun --standalone --nproc-per-node="${SLURM_GPUS_ON_NODE:-1}" -m training train \
    --device cuda --workers 6 --time-limit "$MINUTES" "$@"

if ((SECONDS >= MINUTES * 60)); then
    scontrol requeue "$SLURM_JOB_ID"
fi
